"""Checkpoints that are written while training goes on: the same bytes, complete or absent, and never two at a time."""

import errno
import signal
import time
from threading import Event

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from train.checkpointing.checkpoints import checkpoints_in, verify
from train.pretrain import main
from train.trainer import saving


ASYNC = ("--async_save", "true", "--save_steps", "3")


@pytest.fixture
def words(tiny_recipe):
    return ["--config", str(tiny_recipe), "--report_to", "none", "--eval_strategy", "no"]


@pytest.fixture
def slowly(monkeypatch):
    """`slowly(wait)`: the thread calls `wait(files)` before it writes them."""
    original = saving.write_states

    def set_up(wait):
        def write_states(states):
            if states:
                wait(states)
            original(states)

        monkeypatch.setattr(saving, "write_states", write_states)

    return set_up


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(number, do)`: once the optimizer has taken that step."""

    def set_up(number, do):
        def on_optimizer_step(self, args, state, control, **kwargs):
            if state.global_step == number - 1:
                do()

        monkeypatch.setattr(TrainerCallback, "on_optimizer_step", on_optimizer_step)

    return set_up


def digests(checkpoint):
    """Those of all files but two: one holds times, the other the setting."""
    files = verify(checkpoint)["files"]
    return {name: file for name, file in files.items() if name not in ("trainer_state.json", "recipe.yaml")}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_holds_what_was_true_at_its_step(words, slowly, at_step, tmp_path, optimizer, log_by_step):
    """Written only after the weights have changed."""
    words = [*words, "--optim_name", optimizer, "--save_steps", "3", "--save_total_limit", "9", "--output_dir"]
    at_once, meanwhile = tmp_path / "at_once", tmp_path / "meanwhile"
    assert main([*words, str(at_once)]) == 0
    has_changed, waited = Event(), []
    slowly(lambda states: waited.append(has_changed.wait(60)))
    at_step(5, has_changed.set)
    assert main([*words, str(meanwhile), "--async_save", "true"]) == 0
    assert waited == [True] * 3  # the last one is written at once
    for step in (3, 6, 9, 12):
        name = f"checkpoint-{step}"
        assert digests(meanwhile / name) == digests(at_once / name)
        assert log_by_step(meanwhile / name) == log_by_step(at_once / name)
        modes = [(folder / name / "model.safetensors").stat().st_mode for folder in (at_once, meanwhile)]
        assert modes[0] == modes[1]
    weights, others = (load_file(folder / "model.safetensors") for folder in (at_once, meanwhile))
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_one_that_comes_too_early_waits_and_says_so_once(words, slowly, tmp_path, caplog):
    seen = []

    def wait(states):
        seen.append(len(list((tmp_path / "run" / "unfinished").iterdir())))
        end = time.monotonic() + 1
        while "is still being written" not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)

    slowly(wait)
    assert main([*words, "--async_save", "true", "--save_steps", "1", "--max_steps", "5"]) == 0
    assert seen == [1] * 4
    assert caplog.text.count("checkpoint-2 waits, as the one before it is still being written") == 1
    assert caplog.text.count("is still being written") == 1
    assert [path.name for path in checkpoints_in(tmp_path / "run")] == ["checkpoint-5", "checkpoint-4", "checkpoint-3"]


def test_what_fails_ends_the_run_at_the_next_step(words, slowly, at_step, tmp_path, caplog):
    run = tmp_path / "run"
    failing = Event()

    def fill_disk(states):
        if any("checkpoint-6" in str(file) for file in states):
            next(iter(states)).write_text("half")
            failing.set()
            raise OSError(errno.ENOSPC, "No space left on device")

    slowly(fill_disk)
    at_step(8, lambda: failing.wait(60) and time.sleep(0.2))
    assert main([*words, *ASYNC]) == 1
    assert "checkpoint-6 could not be written (a checkpoint takes about 0.0" in caplog.text
    assert "earlier checkpoints are untouched. [Errno 28] No space left on device" in caplog.text
    assert caplog.text.count("could not be written") == 1
    (checkpoint,) = checkpoints_in(run)
    assert verify(checkpoint)["step"] == 3
    assert not (run / "unfinished").exists()


def test_a_stop_amid_a_write_loses_neither(words, slowly, stop_after, tmp_path):
    slowly(lambda states: time.sleep(0.5))
    stop_after(4)
    assert main([*words, *ASYNC]) == 128 + signal.SIGTERM
    assert [(path.name, verify(path)["step"]) for path in checkpoints_in(tmp_path / "run")] == [
        ("checkpoint-4", 4),
        ("checkpoint-3", 3),
    ]


def test_the_best_model_may_still_be_written_when_training_ends(words, slowly, at_step, tmp_path):
    ends = Event()
    slowly(lambda states: ends.wait(60) and time.sleep(0.3))
    at_step(3, ends.set)
    best = ["--eval_strategy", "steps", "--save_strategy", "best", "--eval_steps", "2", "--max_steps", "3"]
    best += ["--metric_for_best_model", "loss", "--greater_is_better", "true", "--load_best_model_at_end", "true"]
    assert main([*words, *best, "--async_save", "true"]) == 0
    run = tmp_path / "run"
    assert [path.name for path in checkpoints_in(run)] == ["checkpoint-2"]
    weights, best = (load_file(folder / "model.safetensors") for folder in (run, run / "checkpoint-2"))
    assert all(torch.equal(weights[name], best[name]) for name in weights)


def test_an_error_in_training_leaves_the_write_its_time(words, slowly, at_step, tmp_path):
    """The folder's lock is free only once nothing is written any more."""
    slowly(lambda states: time.sleep(0.5))

    def interrupt():
        raise KeyboardInterrupt

    at_step(4, interrupt)
    with pytest.raises(KeyboardInterrupt):
        main([*words, *ASYNC])
    (checkpoint,) = checkpoints_in(tmp_path / "run")
    assert verify(checkpoint)["step"] == 3
