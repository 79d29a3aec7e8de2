import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.callbacks import throughput
from train.callbacks.flops import measured_peak_flops
from train.callbacks.throughput import Throughput


TOKENS_PER_STEP = 64
FLOPS_PER_TOKEN = 1000


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")


@pytest.fixture
def time_passes(monkeypatch):
    """A clock that moves only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(throughput, "measured_peak_flops", lambda *args, **kwargs: 1e6)

    def time_passes(seconds):
        now[0] += seconds

    return time_passes


@pytest.fixture
def run(arguments, time_passes):
    """`run(first, last, wait, work, pause)`: the figures at the last step of a log interval of such steps, the pause
    between two of them."""
    figures = Throughput(arguments, FLOPS_PER_TOKEN)

    def run(first, last, wait=0.0, work=0.5, pause=0.0):
        state = TrainerState(max_steps=101)
        for step in range(first, last + 1):
            with figures.waiting_for_data():
                time_passes(wait)
            time_passes(work)
            state.global_step = step
            figures.on_step_end(arguments, state, TrainerControl())
            if step == first:
                time_passes(pause)
        return figures.describe(state, state.global_step * TOKENS_PER_STEP)

    return run


def test_speed_use_and_time_left_follow_from_the_steps(run):
    assert run(1, 1).keys() == {"tokens_seen", "memory_gib", "elapsed_seconds"}
    found = run(2, 11, pause=5)
    assert found["tokens_seen"] == 11 * TOKENS_PER_STEP
    assert found["tokens_per_second"] == 128
    assert found["mfu"] == pytest.approx(128 * FLOPS_PER_TOKEN / 1e6)
    assert found["data_wait"] == 0
    assert found["eta_seconds"] == 90, "evaluating and saving take their part of what is left"


def test_waiting_is_a_share_of_the_steps_and_pauses_are_none(run):
    run(1, 1)
    found = run(2, 5, wait=0.5, work=1.5, pause=60)
    assert (found["tokens_per_second"], found["data_wait"]) == (32, 0.25)
    found = run(6, 7, work=0.5)
    assert (found["tokens_per_second"], found["data_wait"]) == (128, 0.0), "each log line starts anew"


def test_waiting_for_the_device_when_logging_belongs_to_the_step(arguments, time_passes):
    figures = Throughput(arguments, None)
    for step in (1, 2):
        state = TrainerState(global_step=step, max_steps=10)
        figures.on_step_end(arguments, state, TrainerControl())
        time_passes(2.0)  # the loss comes from the device
        found = figures.describe(state, step * TOKENS_PER_STEP)
    assert found["tokens_per_second"] == 32
    assert "mfu" not in found


def test_no_step_in_between_gives_no_figures(run, arguments):
    run(1, 7)
    assert "tokens_per_second" not in run(8, 7)


def test_the_time_of_earlier_starts_is_counted(arguments, time_passes):
    figures = Throughput(arguments, None)
    history = [{"step": 5, "elapsed_seconds": 40.0}, {"step": 5, "eval_loss": 2.0}]
    state = TrainerState(global_step=5, max_steps=10, log_history=history)
    figures.on_train_begin(arguments, state, TrainerControl())
    for seconds in (43, 46):
        time_passes(3)
        assert figures.describe(state, 0)["elapsed_seconds"] == seconds


def test_measuring_the_peak_draws_no_random_numbers_of_the_run():
    state = torch.random.get_rng_state()
    assert measured_peak_flops(torch.device("cpu"), torch.float32, seconds=0.01) > 1e6
    assert torch.equal(torch.random.get_rng_state(), state)


def test_memory_is_the_peak_of_this_process(arguments):
    held = torch.ones(2**28 // 4 * 3)
    assert 0.75 <= Throughput(arguments, None).describe(TrainerState(), 0)["memory_gib"] < 64
    assert held.nbytes == 0.75 * 2**30
