"""Watches loss and gradient at each step: a NaN or an infinity ends the run, a spike is reported or left out."""

import logging
import math
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import TrainerCallback

from train.errors import RunFailedError


logger = logging.getLogger(__name__)

WINDOW_STEPS = 128  # as llm.c's outlier detector


class LossGuard(TrainerCallback):
    """Judges each optimizer step: ends the run where its loss or gradient is not finite, and looks for spikes.

    On the CPU and on MPS (which has no pinned memory), and wherever spikes are to be skipped, it is judged before it is
    taken. Otherwise an accelerator's step is judged one step later, so that the host never waits for the device.

    A spike is a loss `spike_score` standard deviations above the mean of the last `WINDOW_STEPS`; with 0, none is
    looked for. `describe_step` names the rows and the learning rate of the step at which the run ends.
    """

    def __init__(self, spike_score: float, skip_spikes: bool, describe_step: Callable[[int], str]):
        self.spike_score = spike_score
        self.skip_spikes = skip_spikes
        self.describe_step = describe_step
        self.recent_losses: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._pending: tuple[int, Tensor, torch.Event] | None = None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if control.should_save:  # nothing is saved before its step is judged
            self.settle()

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.settle()

    on_evaluate = on_epoch_end  # with --save_strategy best, it decides about saving
    on_train_end = on_epoch_end

    def allows(self, step: int, loss: Tensor, gradient_norm: Tensor) -> bool:
        """Whether a step, numbered from 1, shall be taken: by its mean loss and its gradient norm before clipping.
        Raises a `RunFailedError` where one of the two is NaN or infinite (on an accelerator: was, at the step
        before)."""
        values = torch.stack([loss.detach().float(), gradient_norm.detach().float()])
        if values.device.type in ("cpu", "mps") or (self.skip_spikes and self.spike_score):
            return self._judge(step, *values.tolist())
        self.settle()
        copy = torch.empty(2, pin_memory=True).copy_(values, non_blocking=True)
        arrived = torch.Event(device=values.device.type)
        arrived.record()
        self._pending = (step, copy, arrived)
        return True

    def settle(self) -> None:
        """Judge the step that is still on its way from the device, if any; called before anything is saved."""
        if self._pending is not None:
            step, values, arrived = self._pending
            self._pending = None
            arrived.synchronize()
            self._judge(step, *values.tolist())

    def _judge(self, step: int, loss: float, gradient_norm: float) -> bool:
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise RunFailedError(
                f"Step {step}: the loss is {loss:g} and its gradient norm {gradient_norm:g}; "
                f"{self.describe_step(step)}. Nothing of this step was saved. Look at these rows, or resume from the "
                "last checkpoint with a lower learning rate."
            )
        score = self._score(loss)
        if self.spike_score and score > self.spike_score:
            action = "left out" if self.skip_spikes else "taken all the same (--skip_loss_spikes leaves such steps out)"
            logger.warning(
                "Step %d: the loss of %.3f is %.1f standard deviations above the last %d; the step is %s.",
                *(step, loss, score, WINDOW_STEPS, action),
            )
            if self.skip_spikes:
                return False
        self.recent_losses.append(loss)
        return True

    def _score(self, loss: float) -> float:
        """Standard deviations above the window's mean; 0 while the window is not full."""
        if len(self.recent_losses) < WINDOW_STEPS:
            return 0.0
        mean = math.fsum(self.recent_losses) / WINDOW_STEPS
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in self.recent_losses) / WINDOW_STEPS)
        return (loss - mean) / deviation if deviation > 0 else 0.0
