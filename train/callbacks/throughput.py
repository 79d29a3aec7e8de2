"""The figures of a log line beside loss and learning rate: tokens seen, speed, use of the device, time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments

from train.callbacks.flops import data_sheet_peak_flops, measured_peak_flops
from train.callbacks.peak_memory import peak_memory_bytes


class Throughput(TrainerCallback):
    """Times the steps of a run on the host alone: no figure makes a device wait.

    The Trainer tells it when it fetches data, and asks for the figures as it logs, so that every tracker gets them;
    evaluating, saving and reporting take place between the two and count as pauses.
    """

    def __init__(self, args: TrainingArguments, flops_per_token: int | None):
        self.args = args
        self.flops_per_token = flops_per_token  # arithmetic of training on a token, where it is known
        self._peak_flops = 0.0
        self._began = time.perf_counter()
        self._earlier_seconds = 0.0  # of the starts that this run resumes
        self._first: tuple[int, float] | None = None  # step and time of the first call of `describe`
        self._logged_step, self._logged_tokens, self._logged_time = 0, 0, 0.0
        self._waited = self._paused = 0.0  # seconds since the last log line
        self._pause_began: float | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._began = time.perf_counter()
        logged = [entry["elapsed_seconds"] for entry in state.log_history if "elapsed_seconds" in entry]
        self._earlier_seconds = logged[-1] if logged else 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._pause_began = time.perf_counter()

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self._end_pause()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """The batches of a step are fetched."""
        self._end_pause()
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def _end_pause(self) -> None:
        if self._pause_began is not None:
            self._paused += time.perf_counter() - self._pause_began
            self._pause_began = None

    def describe(self, state: TrainerState, tokens_seen: int) -> dict[str, float]:
        """The figures at a step, which train/run_report/README.md tells; speed and what follows from it only where
        steps were timed since the last call. Tokens and `elapsed_seconds` are of all starts, without what was lost
        between a start's last log line and its end; `eta_seconds` has pauses in it."""
        now = time.perf_counter()
        figures: dict[str, float] = {"tokens_seen": tokens_seen}
        step = state.global_step
        if self._first is None:
            self._first = step, now
        elif step > self._logged_step:
            first_step, first_time = self._first
            seconds = now - self._logged_time - self._paused
            tokens_per_second = (tokens_seen - self._logged_tokens) / seconds
            figures["tokens_per_second"] = round(tokens_per_second)
            if self.flops_per_token is not None:
                figures["mfu"] = round(self._utilisation(tokens_per_second * self.flops_per_token), 4)
            figures["data_wait"] = round(self._waited / seconds, 4)
            figures["eta_seconds"] = round((now - first_time) / (step - first_step) * (state.max_steps - step))
        figures["memory_gib"] = round(peak_memory_bytes(self.args.device) / 2**30, 2)
        figures["elapsed_seconds"] = round(self._earlier_seconds + now - self._began, 1)
        self._logged_step, self._logged_tokens = step, tokens_seen
        self._waited = self._paused = 0.0
        self._logged_time = self._pause_began = time.perf_counter()  # measuring the device took a while
        return figures

    def _utilisation(self, flops: float) -> float:
        """FLOP/s as a share of the peak: the data sheet's where it has the format, else as measured here."""
        if not self._peak_flops:
            self._peak_flops = self._measure_peak()
        if flops > self._peak_flops:  # other programs disturbed when it was measured
            self._peak_flops = max(self._measure_peak(), self._peak_flops)
        return flops / self._peak_flops

    def _measure_peak(self) -> float:
        device = self.args.device
        peak = data_sheet_peak_flops(device) if self.args.bf16 or self.args.fp16 else None
        if peak is None:
            dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
            peak = measured_peak_flops(device, dtype, seconds=0.2, size_on_gpus=4096)  # little memory
        return peak * self.args.world_size
