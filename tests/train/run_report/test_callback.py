"""The report follows the training, costs it next to nothing, and cannot harm it."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file

from train.errors import RunFailedError
from train.pretrain import main
from train.run_report import callback, page
from train.run_report.callback import RunReport


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when the test, or a page that is written, says so; and when pages were written."""

    class Clock:
        now = 1000.0
        seconds_per_page = 0.5
        written: list[float]

        def write_page(self, run, file):
            self.written.append(self.now)
            self.now += self.seconds_per_page

    clock = Clock()
    clock.written = []
    monkeypatch.setattr(callback.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(callback, "write_page", clock.write_page)
    return clock


@pytest.fixture
def report(tmp_path):
    return RunReport(tmp_path, {"parameters": 1000})


def record(folder):
    return json.loads((folder / "report.json").read_text())


def test_a_run_leaves_its_page_and_all_that_it_logged(finished_run):
    found = record(finished_run)
    logged = json.loads((finished_run / "trainer_state.json").read_text())["log_history"]
    assert found["log"] == logged
    assert (found["condition"], found["step"], found["total_steps"]) == ("finished", 12, 12)
    assert found["data"]["dropped_rows"] == {"no answer": 10}
    assert [start["step"] for start in found["starts"]] == [0]
    assert "finished</p>" in (finished_run / "report.html").read_text()
    assert not list(finished_run.glob("*.partial"))


def test_pages_take_a_hundredth_of_the_time(report, training, clock):
    arguments = training()
    report.on_train_begin(*arguments)
    for _ in range(2000):
        clock.now += 0.1
        report.on_log(*arguments)
        report.on_step_begin(*arguments)
    assert len(clock.written) == pytest.approx(1 + 200 / 50.5, abs=1)
    assert all(later - before >= 50 for before, later in zip(clock.written, clock.written[1:], strict=False))


def test_an_evaluation_and_a_save_are_shown_at_once_and_together(report, training, clock):
    arguments = training()
    report.on_train_begin(*arguments)
    for event in (report.on_log, report.on_evaluate, report.on_save):
        event(*arguments)
    for _ in range(3):
        report.on_step_begin(*arguments)
    assert len(clock.written) == 2


def test_the_page_has_the_last_step_before_the_last_evaluation(report, training, clock, tmp_path):
    arguments, state, control = training()
    report.on_train_begin(arguments, state, control)
    state.global_step = 12
    report.on_train_end(arguments, state, control)
    assert (record(tmp_path)["condition"], record(tmp_path)["step"]) == ("running", 12)


def test_a_signal_in_the_last_step_is_a_stop(report, training, clock, tmp_path):
    arguments = training(step=12)
    report.on_train_begin(*arguments)
    report.on_train_end(*arguments)
    report.write("stopped")
    assert record(tmp_path)["condition"] == "stopped"


def test_what_cannot_be_found_out_at_the_start_is_a_warning(report, training, clock, monkeypatch, caplog):
    def fail(arguments):
        raise RuntimeError("no such library")

    monkeypatch.setattr(callback, "describe_environment", fail)
    report.on_train_begin(*training())
    assert "the run goes on. RuntimeError: no such library" in caplog.text
    assert len(clock.written) == 1


def test_an_error_is_noted_with_the_last_step_and_without_local_paths(report, training, tmp_path):
    arguments, state, control = training(log=[{"step": 0, "loss": 9.0}])
    report.on_train_begin(arguments, state, control)
    state.global_step = 5
    state.log_history.append({"step": 5, "loss": float("nan"), "grad_norm": float("inf")})
    with pytest.raises(RunFailedError), report.noting_failure():
        raise RunFailedError("the loss is nan, see /data/someone/runs/tiny for more")
    found = record(tmp_path)
    assert (found["condition"], found["step"]) == ("failed", 5)
    assert found["reason"] == "RunFailedError: the loss is nan, see .../tiny for more"
    assert found["log"][-1] == {"step": 5, "loss": None, "grad_norm": None}
    assert "failed after step 5</p>" in (tmp_path / "report.html").read_text()


def test_a_second_ctrl_c_is_a_stop(report, training, clock, tmp_path):
    report.on_train_begin(*training())
    with pytest.raises(KeyboardInterrupt), report.noting_failure():
        raise KeyboardInterrupt
    assert record(tmp_path)["condition"] == "stopped"


def test_a_resumed_run_knows_its_starts_and_a_fresh_one_forgets_them(training, clock, tmp_path):
    for step in (0, 4, 8):
        RunReport(tmp_path, {}).on_train_begin(*training(step))
    assert [start["step"] for start in record(tmp_path)["starts"]] == [0, 4, 8]
    RunReport(tmp_path, {}).on_train_begin(*training(0))
    assert [start["step"] for start in record(tmp_path)["starts"]] == [0]


@pytest.mark.parametrize(("wanted", "main_process"), [(False, True), (True, False)])
def test_unwanted_or_in_another_process_nothing_is_written(training, tmp_path, wanted, main_process):
    report = RunReport(tmp_path / "run", {}, wanted)
    arguments = training(main_process=main_process)
    report.on_train_begin(*arguments)
    for event in (report.on_log, report.on_evaluate, report.on_save, report.on_step_begin, report.on_train_end):
        event(*arguments)
    report.write("finished")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_a_warning(report, training, tmp_path, monkeypatch, caplog):
    arguments = training()
    report.on_train_begin(*arguments)
    before = (tmp_path / "report.html").read_bytes()

    def fill(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.run_files.os.fsync", fill)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            report.on_evaluate(*arguments)
            report.on_step_begin(*arguments)
    assert len(caplog.messages) == 1
    assert "report.html could not be written; the run goes on. OSError: [Errno 28] No space left" in caplog.text
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_training_is_the_same_with_a_page_at_every_step_and_with_none(words, tmp_path, monkeypatch):
    steps = []

    def write_page(run, file):
        steps.append(run.record["step"])
        page.write_page(run, file)

    monkeypatch.setattr(callback, "write_page", write_page)
    monkeypatch.setattr(callback, "SHARE_OF_TIME", float("inf"))
    runs = {}
    for wanted in ("true", "false"):
        folder = tmp_path / wanted
        assert main([*words, "--output_dir", str(folder), "--exam_tokens", "1", "--html_report", wanted]) == 0
        log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        names = ("step", "loss", "grad_norm", "learning_rate", "eval_loss")
        runs[wanted] = (
            [{name: line[name] for name in names if name in line} for line in log],
            load_file(folder / "model.safetensors"),
        )
        assert (folder / "report.html").exists() == (wanted == "true")
    assert steps == [*range(13), 12]  # the last is after the exam
    assert runs["true"][0] == runs["false"][0]
    assert all(torch.equal(tensor, runs["false"][1][name]) for name, tensor in runs["true"][1].items())
