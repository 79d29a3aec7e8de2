"""Where the time of a run goes: into steps, into waiting for their data, and into pauses for evaluating and saving."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StepTimes:
    """
    Args:
        seconds_per_step: on average, evaluating and saving left out.
        data_wait: the share of them spent waiting for data.
        seconds_per_step_with_pauses: on average since the first call, evaluating and saving included.
    """

    seconds_per_step: float
    data_wait: float
    seconds_per_step_with_pauses: float


class StepClock:
    """Counts seconds between two log lines; reads no device, so it makes nothing wait."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None  # step and time of the first call
        self._logged_step = 0
        self._started = 0.0
        self._waited = 0.0
        self._paused = 0.0

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Evaluating or saving: no part of a step."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    def since_last_log(self, step: int) -> StepTimes | None:
        """The times of the steps since the last call; `None` at first, and where there was no step in between."""
        now = time.perf_counter()
        times = None
        if self._first is None:
            self._first = step, now
        elif step > self._logged_step:
            seconds = now - self._started - self._paused
            first_step, first_time = self._first
            times = StepTimes(
                seconds / (step - self._logged_step), self._waited / seconds, (now - first_time) / (step - first_step)
            )
        self._logged_step, self._started = step, now
        self._waited = self._paused = 0.0
        return times
