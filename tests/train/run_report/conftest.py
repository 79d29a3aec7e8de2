"""One finished run for all tests of the report, one in the middle of its training, and a page taken apart."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.pretrain import main
from train.run_report.callback import RunReport
from train.run_report.page import render_page
from train.run_report.run_record import RunRecord


STEPS, TOKENS_PER_STEP = 12, 128
QUESTIONS = ["What follows 3?", "What follows 7?"]


def make_row(number: int) -> dict:
    """A row in SYNTH's schema, every fourth in French; every tenth has no answer."""
    return {
        "language": "en" if number % 4 else "fr",
        "exercise": "memorization" if number % 3 else "mcq",
        "query": f"What follows {number}?",
        "query_seed_url": f"test://number/{number}",
        "additional_seed_url": None,
        "constraints": None,
        "synthetic_reasoning": f"Counting on from {number}.",
        "synthetic_answer": str(number + 1) if number % 10 else None,
    }


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line of a tiny run, but for its `--output_dir`."""
    place = tmp_path_factory.mktemp("run_report")
    rows = place / "rows.jsonl"
    rows.write_text("".join(json.dumps(make_row(number)) + "\n" for number in range(100)))
    settings = {
        "dataset": str(rows),
        "data_cache_dir": str(place / "cache"),
        "exam": str(rows),
        "exam_tokens": 4,
        "sample_prompts": QUESTIONS,
        "sample_tokens": 6,
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 64,
        "sequence_length": 32,
        "validation_fraction": 0.1,
        "per_device_train_batch_size": 4,
        "max_steps": STEPS,
        "logging_steps": 1,
        "eval_steps": 4,
        "save_steps": 6,
        "learning_rate": 1e-3,
        "cpu_threads": 1,
        "dataloader_pin_memory": False,
        "attn_pdrop": 0.1,
    }
    recipe = place / "recipe.yaml"
    recipe.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()))
    return ["--config", str(recipe)]


@pytest.fixture(scope="session")
def finished_run(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    assert main([*words, "--output_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return Path(shutil.copytree(finished_run, tmp_path / "tiny"))


@pytest.fixture
def run_files() -> Callable[..., RunRecord]:
    """The record of a run folder that holds only the files that a test gives."""

    def make(**given) -> RunRecord:
        nothing: dict = {
            "folder": Path("tiny"),
            "record": {},
            "results": {},
            "recipe": {},
            "config": {},
            "evaluation": {},
            "evaluation_fits": True,
            "log": [],
            "final_log": [],
            "total_steps": None,
            "samples": [],
            "exam_before": [],
            "emissions": {},
            "is_held": False,
            "damaged": {},
        }
        return RunRecord(**{**nothing, **given})

    return make


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., tuple]:
    """`training(step=..., log=[...])`: what the Trainer hands to its callbacks."""

    def make(step: int = 0, log: list[dict] | None = None, main_process: bool = True) -> tuple:
        arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
        state = TrainerState(global_step=step, max_steps=STEPS, log_history=log or [])
        state.is_world_process_zero = main_process
        return arguments, state, TrainerControl()

    return make


@pytest.fixture
def live_folder(run_folder: Path, training: Callable[..., tuple]) -> Path:
    """A run folder in the middle of the training: what the callback writes then, and no more."""
    log = json.loads((run_folder / "trainer_state.json").read_text())["log_history"]
    statistics = json.loads((run_folder / "results.json").read_text())["data"]
    for name in ("results.json", "trainer_state.json", "report.html", "report.json"):
        (run_folder / name).unlink()
    shutil.rmtree(run_folder / "checkpoint-12")
    report = RunReport(run_folder, {"parameters": 1000, "data": statistics})
    report.on_train_begin(*training(step=8, log=[line for line in log if line["step"] <= 8]))
    return run_folder


class _Text(HTMLParser):
    """The elements of a page, and the text that a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.shown: list[str] = []
        self._inside: str = ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.shown.append(data)


@pytest.fixture
def parse() -> Callable[[RunRecord], tuple[str, list[tuple[str, dict]]]]:
    """The text of a run's page, in one line, and its elements with their attributes."""

    def parse(run: RunRecord) -> tuple[str, list[tuple[str, dict]]]:
        parser = _Text()
        parser.feed(render_page(run))
        return " ".join(" ".join(parser.shown).split()), parser.elements

    return parse
