"""A small pre-trained run to start from, and words that post-train it, for the tests of post-training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, set_seed

from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.pretrain import main as pretrain


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("post-training")


@pytest.fixture
def rows(shared, row) -> Path:
    """Two hundred rows in SYNTH's columns, as JSON lines."""
    file = shared / "rows.jsonl"
    if not file.exists():
        file.write_text("".join(json.dumps(row(number)) + "\n" for number in range(200)))
    return file


@pytest.fixture
def base(shared, rows, tiny_recipe) -> Path:
    """The folder of a finished pre-training of a few steps on these rows."""
    folder = shared / "base"
    if not folder.exists():
        words = ["--config", str(tiny_recipe), "--dataset", str(rows), "--data_cache_dir", str(shared / "cache")]
        words += ["--max_steps", "4", "--eval_steps", "4", "--save_steps", "4", "--output_dir", str(folder)]
        words += ["--tokenizer", str(TOKENIZER_FOLDER)]
        assert pretrain([*words, "--html_report", "false"]) == 0
    return folder


@pytest.fixture
def sft_words(shared, rows, base, tmp_path) -> list[str]:
    """A short sft of the base with every source of randomness on; `--output_dir` is to be added."""
    settings = {
        "init_from": base,
        "dataset": rows,
        "data_cache_dir": shared / "cache",
        "max_length": 64,
        "validation_fraction": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "resid_pdrop": 0.1,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "logging_steps": 1,
        "eval_steps": 6,
        "save_steps": 6,
        "max_eval_samples": 6,
        "forgetting_sequences": 2,
    }
    return write_recipe(tmp_path / "sft.yaml", "sft", settings)


def write_recipe(file: Path, method: str, settings: dict) -> list[str]:
    """The words that name a recipe of these settings, on one thread and without a report."""
    quick = {"cpu_threads": 1, "dataloader_pin_memory": "false", "html_report": "false"}
    lines = {"method": method, **settings, **quick}
    file.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return ["--config", str(file)]


@pytest.fixture
def toss_words(undecided, tosses, tmp_path) -> Callable[..., list[str]]:
    """`toss_words(method, **settings)`: words for a short run on tosses, into the folder `run`."""

    def words(method: str, **settings) -> list[str]:
        common = {
            "init_from": undecided,
            "dataset": tosses,
            "validation_fraction": 0.2,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "constant",
            "max_steps": 6,
            "logging_steps": 1,
            "eval_steps": 3,
            "save_steps": 3,
            "forgetting_sequences": 0,
            "data_cache_dir": tmp_path / "cache",
            "output_dir": tmp_path / "run",
        }
        return write_recipe(tmp_path / f"{method}.yaml", method, common | settings)

    return words


@pytest.fixture
def changed_tosses(tosses, tmp_path) -> Callable[[dict], str]:
    """`changed_tosses(columns)`: the path of tosses with these columns in place of theirs."""

    def change(columns: dict) -> str:
        rows = [json.loads(line) | columns for line in tosses.read_text().splitlines()]
        file = tmp_path / "other.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(file)

    return change


@pytest.fixture(scope="session")
def undecided(shared) -> Path:
    """A tiny model that answers every toss in the right form with heads or tails, one as likely as the other."""
    folder = shared / "undecided"
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    texts = [f"Q: Toss {number}.\n\nA: {side}<|endoftext|>" for number in (3, 8, 14) for side in ("heads", "tails")]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    length = max(map(len, rows))
    labels = torch.tensor([row + [-100] * (length - len(row)) for row in rows])
    set_seed(0)
    config = GPT2ScratchConfig(
        n_layer=1, n_head=2, n_embd=32, n_positions=64, initializer_range=0.1, eos_token_id=tokenizer.eos_token_id
    )
    model = GPT2ScratchForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(25):
        optimizer.zero_grad()
        model(labels.clamp(min=0), labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def tosses(shared) -> Path:
    """Questions whose expected answer is always heads, with no other columns of SYNTH than these."""
    file = shared / "tosses.jsonl"
    if not file.exists():
        rows = [{"query": f"Toss {number}.", "synthetic_answer": "heads"} for number in range(20)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
