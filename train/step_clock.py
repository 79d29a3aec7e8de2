"""Where the time of a run goes: into steps, into waiting for their data, and into pauses for evaluating and saving."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StepClock:
    """Counts seconds between two log lines; reads no device, so it makes nothing wait."""

    def __init__(self) -> None:
        self._logged_step: int | None = None
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

    def since_last_log(self, step: int) -> tuple[float, float] | None:
        """Seconds a step took on average since the last call, and the share of it spent waiting for data; `None` at
        first, and where there was no step in between."""
        now = time.perf_counter()
        figures = None
        if self._logged_step is not None and step > self._logged_step:
            seconds = now - self._started - self._paused
            figures = seconds / (step - self._logged_step), self._waited / seconds
        self._logged_step, self._started = step, now
        self._waited = self._paused = 0.0
        return figures
