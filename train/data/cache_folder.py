"""Where prepared data lies on the disk: in a folder that is named by everything that decides its content."""

import hashlib
import json
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerBase


def fingerprint(made_from: list) -> str:
    """The SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def cache_folder(made_from: list, tokenizer: PreTrainedTokenizerBase, cache_dir: Path | None, prefix: str = "") -> Path:
    """The folder of what a tokenizer makes from these values, beside the datasets library's cache by default."""
    vocabulary = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    root = cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "gpt2scratch"
    return root.expanduser() / f"{prefix}{fingerprint([*made_from, vocabulary])[:16]}"
