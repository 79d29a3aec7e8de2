"""A second start in a run's folder, made at any stage of the run: refused, or, after the run, nothing left to do."""

import contextlib
import os
import sys
import time

import pytest

from tests.train.forked_run import ForkedRun
from train import run
from train.callbacks.graceful_stop import GracefulStop
from train.checkpointing import checkpoints
from train.checkpointing.run_lock import lock_run
from train.pretrain import main


pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]


def start_for_each_line(words):
    """Starts the run in a new process for each line that it reads: the seconds to wait for the lock."""
    for line in sys.stdin:
        if os.fork() == 0:

            def lock(folder, seconds=float(line)):
                print("at the lock", flush=True)  # noqa: T201
                return lock_run(folder, seconds=seconds)

            run.lock_run = lock
            status = main(words)
            print("status", status, flush=True)  # noqa: T201
            os._exit(status)
        if float(line) < 1:
            os.wait()
            print("ended", flush=True)  # noqa: T201
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return 0


def test_a_second_start_at_any_stage_changes_nothing(tiny_recipe, tmp_path, monkeypatch):
    words = ["--config", str(tiny_recipe), "--resume_from_checkpoint", "auto"]
    starter = ForkedRun(start_for_each_line, words)
    stages = []

    def start_second(stage):
        """One that waits for a moment and is refused, and one that waits until the first has finished."""
        if stage in stages:
            return
        stages.append(stage)
        for seconds, awaited in ((0.1, "ended"), (200, "at the lock")):
            starter.stdin.write(f"{seconds}\n")
            starter.stdin.flush()
            output = ""
            while not output.endswith(f"{awaited}\n"):
                output += starter.stdout.readline()
            assert awaited != "ended" or ("Another run is writing into" in output and "status 2" in output), output

    def at(stage, where, name):
        original = getattr(where, name)

        def do(*args, **kwargs):
            start_second(stage)
            return original(*args, **kwargs)

        monkeypatch.setattr(where, name, do)

    at("starting", sys.modules["train.run"], "put_aside_damaged")
    at("preparing data", sys.modules["train.pretrain"], "load_training_data")
    at("training", GracefulStop, "on_step_end")
    at("saving a checkpoint", checkpoints, "put_in_place")
    at("writing the model", checkpoints, "move_files")
    at("writing the results", sys.modules["train.run"], "write_results")
    assert main(words) == 0
    folder = tmp_path / "run"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {"checkpoint-6", "checkpoint-12", "results.json"} <= {path.name for path in folder.iterdir()}
    starter.stdin.write("5\n")
    starter.stdin.close()
    output, _ = starter.communicate(timeout=200)
    assert len(stages) == 6
    assert output.count("status 0") == output.count("nothing to do") == 7, output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_processes_of_a_launch_do_as_the_main_one_decides(tiny_recipe, fork, run_to_end, tmp_path, log_by_step):
    """The main process waits for the lock of a run that goes on meanwhile; the other one must not choose before."""
    words = ["--config", str(tiny_recipe), "--resume_from_checkpoint", "auto", "--per_device_train_batch_size", "2"]
    assert main([*words, "--gradient_accumulation_steps", "2"]) == 0
    run, aside = tmp_path / "run", tmp_path / "checkpoint-12"
    (run / "results.json").unlink()
    (run / "checkpoint-12").rename(aside)
    with lock_run(run):
        process = fork(words, processes=2)
        time.sleep(8)  # the processes have started, and the main one waits
        aside.rename(run / "checkpoint-12")
    output = run_to_end(process)
    assert "checkpoint-12" in output
    assert list(log_by_step(run)) == list(range(1, 13))
    process = fork([*words, "--n_layer", "3"], processes=2)  # refused by the main process, in both
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "n_layer: 2 in checkpoint-12, 3 now" in output
