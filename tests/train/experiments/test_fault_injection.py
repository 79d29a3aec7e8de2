"""The experiment in a short form, and that it would see what it looks for."""

import copy
import random

import pytest
import torch

from tests.train.forked_run import ForkedRun
from train import pretrain
from train.experiments import fault_injection
from train.experiments.child_run import CONSOLE_FILE
from train.experiments.fault_injection import Report, compare, inject_faults, main, note_kill
from train.run_files import MANIFEST_FILE


SHORT = (
    *("--max_steps", "30", "--save_steps", "5", "--eval_steps", "10", "--logging_steps", "1"),
    *("--sample_prompts", "What follows 3?", "--sample_tokens", "4", "--disable_tqdm", "true"),
)
IN_BACKGROUND = ("--async_save", "true")
IN_SHARDS = (
    *IN_BACKGROUND,
    *("--fsdp_size", "2", "--optim_name", "muon", "--bf16", "true", "--gradient_accumulation_steps", "2"),
    *("--per_device_train_batch_size", "2"),
)


def start_forked(settings, run_folder, processes):
    """The run of `start_run` without the seconds of its imports."""
    run_folder.mkdir(exist_ok=True)
    words = [*settings, "--output_dir", str(run_folder)]
    return ForkedRun(pretrain.main, words, processes=processes, console=run_folder / CONSOLE_FILE)


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize(("processes", "kills", "more"), [(1, 3, ()), (1, 3, IN_BACKGROUND), (2, 2, IN_SHARDS)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_left_alone(
    processes, kills, more, tiny_recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(fault_injection, "start_run", start_forked)
    monkeypatch.setattr(fault_injection, "LONGEST_START_SECONDS", 1.0)
    report = inject_faults(
        tmp_path, ["--config", str(tiny_recipe), *SHORT, *more], kills, random.Random(0), processes=processes
    )
    assert report.differences == [], report.render()
    assert report.kills.total() == kills
    assert report.compared["optimizer"] > 10_000
    assert report.compared["logged"] >= report.finished_runs * 30 * 4
    assert report.compared["TensorBoard"] >= report.finished_runs * 30 * 3
    assert report.compared["text samples"] == report.finished_runs * 3
    assert "the same, bit for bit" in report.render()


RECORD = {
    "logged": {(1, "loss"): 3.0, (2, "loss"): 2.5},
    "TensorBoard": {("train/loss", 0): (1, 3.0)},
    "text samples": {0: "one"},
    "weights": {"head": torch.ones(3)},
}


@pytest.mark.parametrize(
    ("what", "key", "value"),
    [
        ("logged", (2, "loss"), 2.5000001),
        ("logged", (3, "loss"), 2.0),
        ("TensorBoard", ("train/loss", 1), (1, 3.0)),
        ("text samples", 1, "one"),
        ("weights", "head", torch.tensor([1.0, 1.0, 1.0000001])),
        ("weights", "body", torch.ones(1)),
    ],
)
def test_any_difference_is_reported(what, key, value):
    found = copy.deepcopy(RECORD)
    compare(RECORD, found, report := Report(finished_runs=1))
    assert report.differences == []
    found[what][key] = value
    compare(RECORD, found, report)
    assert len(report.differences) == 1 and report.differences[0].startswith(f"{what}: {key}")
    assert "DIFFERENT" in report.render()


def test_a_torn_checkpoint_is_reported(tmp_path):
    (tmp_path / "checkpoint-5").mkdir()
    note_kill(tmp_path, "saving", report := Report())
    assert report.differences == [f"torn checkpoint: checkpoint-5 has no {MANIFEST_FILE}: writing it was not finished."]
    assert (report.kills["saving"], report.amid_a_write["saving"], report.torn["saving"]) == (1, 0, 1)


def test_no_kills_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--kills", "0"])
    assert "--kills 0 must be at least 1" in capsys.readouterr().err
