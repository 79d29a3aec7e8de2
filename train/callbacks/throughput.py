"""The figures of a log line beside loss and learning rate: how far, how fast, how well used, how long still."""

import time

import torch
from transformers import PreTrainedModel, TrainingArguments

from train.callbacks.flops import data_sheet_peak_flops, flops_per_token, measured_peak_flops
from train.callbacks.peak_memory import peak_memory_bytes
from train.callbacks.step_clock import StepClock


class Throughput:
    """Counts on the host alone: no figure makes a device wait.

    Args:
        model: what is trained.
        args: says on what, in which number format, and in how many processes.
        sequence_tokens: length of a training sequence, which the arithmetic of attention depends on.
        tokens_per_step: of an optimizer step, over all processes.
    """

    def __init__(self, model: PreTrainedModel, args: TrainingArguments, sequence_tokens: int, tokens_per_step: int):
        self.clock = StepClock()
        self.args = args
        self.tokens_per_step = tokens_per_step
        self.flops_per_token = flops_per_token(model.config, sequence_tokens)
        self._peak_flops: float | None = None
        self._began = time.perf_counter()
        self._earlier_seconds: float | None = None  # of the starts that this run resumes

    def begin(self) -> None:
        """Training starts now."""
        self._began = time.perf_counter()

    def describe(self, step: int, max_steps: int, log_history: list[dict]) -> dict[str, float]:
        """The figures at a step; speed and what follows from it only where steps were timed since the last call.

        Args:
            log_history: the log so far, with that of the starts which this run resumes.

        Returns:
            `tokens_seen`; `tokens_per_second` (without evaluating and saving); `mfu`, the share of the device's matrix
            products that the model's own arithmetic makes up; `data_wait`, the share of time spent waiting for data;
            `memory_gib`, the peak of this process (of its GPU); `eta_seconds` to the last step; `elapsed_seconds` of
            training over all starts, without what was lost between a start's last log line and its end.
        """
        if self._earlier_seconds is None:
            logged = [entry["elapsed_seconds"] for entry in log_history if "elapsed_seconds" in entry]
            self._earlier_seconds = logged[-1] if logged else 0.0
        figures: dict[str, float] = {"tokens_seen": step * self.tokens_per_step}
        times = self.clock.since_last_log(step)
        if times is not None:
            tokens_per_second = self.tokens_per_step / times.seconds_per_step
            figures["tokens_per_second"] = round(tokens_per_second)
            flops = tokens_per_second * self.flops_per_token
            if flops > self.peak_flops():  # which other programs disturbed when it was measured
                self._peak_flops = max(self._measure_peak(), self.peak_flops())
            figures["mfu"] = round(flops / self.peak_flops(), 4)
            figures["data_wait"] = round(times.data_wait, 4)
            figures["eta_seconds"] = round(times.seconds_per_step_with_pauses * (max_steps - step))
        figures["memory_gib"] = round(peak_memory_bytes(self.args.device) / 2**30, 2)
        figures["elapsed_seconds"] = round(self._earlier_seconds + time.perf_counter() - self._began, 1)
        return figures

    def peak_flops(self) -> float:
        """FLOP/s of all devices together: the data sheet's where it has the format, else as measured here."""
        if self._peak_flops is None:
            self._peak_flops = self._measure_peak()
        return self._peak_flops

    def _measure_peak(self) -> float:
        device = self.args.device
        peak = data_sheet_peak_flops(device) if self.args.bf16 or self.args.fp16 else None
        if peak is None:
            dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else torch.float32
            with self.clock.paused():
                peak = measured_peak_flops(device, dtype, seconds=0.2, size_on_gpus=4096)  # little memory
        return peak * self.args.world_size
