"""One finished run for all tests of hub_card: the smallest that leaves everything behind that a run can leave."""

import json
import shutil
from pathlib import Path

import pytest

from train.pretrain import main


def make_row(number: int) -> dict:
    """A row in SYNTH's schema, every fourth in French."""
    return {
        "language": "en" if number % 4 else "fr",
        "exercise": "memorization",
        "query": f"What follows {number}?",
        "query_seed_url": f"test://number/{number}",
        "additional_seed_url": None,
        "constraints": None,
        "synthetic_reasoning": f"Counting on from {number}.",
        "synthetic_answer": str(number + 1),
    }


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder; not to be changed."""
    place = tmp_path_factory.mktemp("hub_card")
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(make_row(number)) + "\n" for number in range(60)))
    settings = {
        "output_dir": str(place / "tiny"),
        "dataset": str(rows),
        "data_cache_dir": str(place / "cache"),
        "exam": str(rows),
        "exam_tokens": 4,
        "sample_prompts": ["What follows 3?"],
        "sample_tokens": 4,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 64,
        "sequence_length": 32,
        "validation_fraction": 0.1,
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "logging_steps": 1,
        "eval_steps": 2,
        "save_steps": 4,
        "cpu_threads": 1,
        "dataloader_pin_memory": False,
    }
    recipe = place / "recipe.yaml"
    recipe.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()))
    assert main(["--config", str(recipe)]) == 0
    return place / "tiny"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(finished_run, tmp_path / "tiny"))
