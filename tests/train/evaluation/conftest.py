"""Tiny models, saved as users have them."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM


def save_tiny(folder: Path, tokenizer, seed: int = 0, context: int = 64) -> Path:
    """A model with weights large enough that its predictions differ from place to place."""
    torch.manual_seed(seed)
    config = GPT2ScratchConfig(n_layer=2, n_head=2, n_embd=16, n_positions=context, initializer_range=0.5)
    GPT2ScratchForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A model without a recipe; not to be changed."""
    # A tokenizer of its own: TRL gives that of other tests a padding token.
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", AutoTokenizer.from_pretrained(TOKENIZER_FOLDER))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder) -> GPT2ScratchForCausalLM:
    return GPT2ScratchForCausalLM.from_pretrained(tiny_folder).eval()


@pytest.fixture
def rows_in_groups(row) -> list[dict]:
    """Sixty rows of two exercises and two languages, a third of them for validation."""
    return [
        row(
            number,
            exercise="mcq" if number % 3 else "editing",
            language="en" if number % 4 else "fr",
            synthetic_answer="A" if number % 2 else "B",
        )
        for number in range(60)
    ]


@pytest.fixture
def run_folder(tokenizer, tmp_path, rows_in_groups) -> Path:
    """A finished run as the evaluation sees it: a model, and the recipe of the rows."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in rows_in_groups))
    folder = save_tiny(tmp_path / "run", tokenizer)
    recipe = {
        "dataset": str(rows),
        "sequence_length": 32,
        "validation_fraction": 0.3,
        "split_seed": 1,
        "packing": "concat",
        "data_cache_dir": str(tmp_path / "cache"),
        "exam_tokens": 8,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder
