import pytest

from train.callbacks import step_clock
from train.callbacks.step_clock import StepClock, StepTimes


@pytest.fixture
def time_passes(monkeypatch):
    """A clock that moves only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: now[0])

    def time_passes(seconds):
        now[0] += seconds

    return time_passes


def test_waiting_is_a_share_of_the_steps_and_pauses_are_none(time_passes):
    clock = StepClock()
    assert clock.since_last_log(1) is None
    for _ in range(4):
        with clock.waiting_for_data():
            time_passes(0.5)
        time_passes(1.5)
    with clock.paused():
        time_passes(60)
    times = clock.since_last_log(5)
    assert times == StepTimes(seconds_per_step=2.0, data_wait=0.25, seconds_per_step_with_pauses=68 / 4)


def test_each_log_line_starts_anew(time_passes):
    clock = StepClock()
    clock.since_last_log(0)
    with clock.waiting_for_data():
        time_passes(1)
    clock.since_last_log(1)
    time_passes(3)
    assert clock.since_last_log(3) == StepTimes(1.5, 0.0, seconds_per_step_with_pauses=4 / 3)


def test_no_step_in_between_gives_no_figures(time_passes):
    clock = StepClock()
    clock.since_last_log(7)
    time_passes(1)
    assert clock.since_last_log(7) is None
