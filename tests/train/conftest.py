"""Rows, recipes and runs for the tests of train/."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.train.forked_run import ForkedRun
from train.callbacks import throughput
from train.callbacks.graceful_stop import GracefulStop
from train.data.rows.synth import row_to_text
from train.pretrain import main
from train.tokenizer.training import train_tokenizer


def make_row(number: int, **changes: str | None) -> dict:
    """A usable row in SYNTH's schema; `changes` replaces columns."""
    row = {
        "synth_id": f"test-{number}",
        "language": "en",
        "exercise": "memorization",
        "model": "test",
        "query": f"What follows {number}?",
        "query_seed_url": f"test://number/{number}",
        "query_seed_text": f"{number} is followed by {number + 1}.",
        "additional_seed_url": None,
        "seed_license": "CC0-1.0",
        "constraints": None,
        "script": None,
        "synthetic_reasoning": f"Counting on from {number} gives {number + 1}.",
        "synthetic_answer": str(number + 1),
        "words": 7,
    }
    return {**row, **changes}


@pytest.fixture
def row() -> Callable[..., dict]:
    return make_row


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """Two hundred rows as JSON lines."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(make_row(number)) + "\n" for number in range(200)))
    return file


@pytest.fixture(scope="session", autouse=True)
def one_peak() -> Iterator[None]:
    """The device's peak is measured once, not by each of hundreds of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throughput, "measured_peak_flops", cache(throughput.measured_peak_flops))
        yield


@pytest.fixture(scope="session")
def own_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer of about 300 ids, with each digit on its own."""
    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [row_to_text(make_row(number)) for number in range(50)]
    train_tokenizer(texts, 300, "gpt4", split_digits=True).save_pretrained(folder)
    return folder


# A model so small that a step takes milliseconds, dropout on, so that every source of randomness takes part.
TINY_SETTINGS = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "n_positions": 64,
    "sequence_length": 32,
    "validation_fraction": 0.1,
    "per_device_train_batch_size": 4,
    "max_steps": 12,
    "logging_steps": 1,
    "eval_steps": 6,
    "save_steps": 6,
    "max_eval_sequences": 4,
    "learning_rate": 1e-3,
    "cpu_threads": 1,
    "dataloader_pin_memory": False,
}


@pytest.fixture
def tiny_recipe(tmp_path: Path, rows_file: Path, own_tokenizer: Path) -> Path:
    """A recipe file that trains for a dozen steps on `rows_file`, into `tmp_path / "run"`.

    With a small tokenizer: GPT-2's would take most of the time of so small a run.
    """
    settings = {
        **TINY_SETTINGS,
        "tokenizer": str(own_tokenizer),
        "dataset": str(rows_file),
        "data_cache_dir": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "run"),
    }
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()))
    return recipe


@pytest.fixture
def launch(repository: Path) -> Callable[..., subprocess.Popen]:
    """Start `accelerate launch [launcher words] train/pretrain.py [words]`, as a user would."""

    def start(words: list[str], launcher: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "accelerate.commands.launch", *launcher, "train/pretrain.py", *words]
        return subprocess.Popen(
            command,
            cwd=repository,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture
def fork() -> Callable[..., ForkedRun]:
    """`fork(words, processes=2)`: the same without the seconds of a launcher and of imports."""

    def start(words: list[str], processes: int = 1) -> ForkedRun:
        return ForkedRun(main, words, processes=processes)

    return start


@pytest.fixture
def log_by_step() -> Callable[[Path], dict[int, dict]]:
    """The training log of a run folder or checkpoint: loss, gradient norm and learning rate of each step."""

    def read(folder: Path) -> dict[int, dict]:
        history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        names = ("loss", "grad_norm", "learning_rate", "tokens_seen")
        return {entry["step"]: {name: entry[name] for name in names} for entry in history if "grad_norm" in entry}

    return read


@pytest.fixture
def run_to_end() -> Callable[[subprocess.Popen | ForkedRun], str]:
    """Wait for a launched run; returns its output."""

    def run_to_end(process: subprocess.Popen | ForkedRun) -> str:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    return run_to_end


@pytest.fixture
def stop_gently() -> Callable[[subprocess.Popen | ForkedRun, int], tuple[int, str]]:
    """Send SIGTERM to the launcher, as a scheduler does, once a step is logged; returns the step that the run stopped
    at, and its output to the last."""

    def stop_gently(process: subprocess.Popen | ForkedRun, step: int) -> tuple[int, str]:
        output = ""
        for line in process.stdout:
            output += line
            if f"| {step}/" in output:
                process.send_signal(signal.SIGTERM)
                break
        output += process.stdout.read()
        process.wait(60)
        time.sleep(1)  # the launcher ends a little after its processes
        stopped = re.search(r"Stopped at step (\d+)", output)
        assert stopped, output
        return int(stopped[1]), output

    return stop_gently


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """`stop_after(step)`: a run in this process then gets a SIGTERM during that step; `None` for no more of it."""
    original = GracefulStop.on_step_end

    def choose(step: int | None) -> None:
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                self._handle(signal.SIGTERM, None)
            return original(self, args, state, control, **kwargs)

        monkeypatch.setattr(GracefulStop, "on_step_end", on_step_end)

    return choose
