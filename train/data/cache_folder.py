"""Where prepared data lies on the disk: in a folder that is named by everything that decides its content."""

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from transformers import PreTrainedTokenizerBase


def fingerprint(made_from: list) -> str:
    """The SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def cache_root(cache_dir: Path | None) -> Path:
    """Where all of it lies: beside the datasets library's cache by default."""
    try:
        return (cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "gpt2scratch").expanduser()
    except RuntimeError as error:  # of a user who is not known here
        raise ValueError(f"--data_cache_dir {cache_dir}: there is no such home folder.") from error


def cache_folder(made_from: list, tokenizer: PreTrainedTokenizerBase, cache_dir: Path | None, prefix: str = "") -> Path:
    """The folder of what a tokenizer makes from these values."""
    made_from = [*made_from, hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()]
    if tokenizer.eos_token != "<|endoftext|>":  # which ends the documents, and is no part of the above
        made_from.append(tokenizer.eos_token)
    return cache_root(cache_dir) / f"{prefix}{fingerprint(made_from)[:16]}"


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make a folder; where it or a file in it cannot be written, a `ValueError` says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        # A write to a full disk names no file; other errors may be those of a file that is read.
        is_full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not is_full and str(folder) not in str(error.filename) and str(error.filename) not in str(folder):
            raise
        raise ValueError(
            f"{folder} cannot be written ({error.strerror}): make room, or name another --data_cache_dir."
        ) from error
