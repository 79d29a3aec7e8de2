"""Ctrl-C and SIGTERM end a run with a checkpoint."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class GracefulStop(TrainerCallback):
    """On the first Ctrl-C or SIGTERM, finishes the optimizer step, saves a checkpoint and stops; on a second Ctrl-C,
    stops at once.

    Differs from the Trainer's `enable_jit_checkpoint` in that it only ever saves between steps, so that the resumed run
    equals one that was never stopped, and in that all processes stop at the same step: a signal reaches them at
    different moments, and one that stopped alone would leave the others waiting for it.

    Attributes:
        signal_number: the signal that stopped the run, `None` if none did.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._received: int | None = None
        self._previous_handlers: dict[int, Any] = {}
        self._group: dist.ProcessGroup | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        for number in SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._handle)
        if args.world_size > 1:
            # Of its own and on the CPU: agreeing must not make the host wait for the accelerator.
            self._group = dist.new_group(backend="gloo")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs
    ) -> TrainerControl:
        received = self._agree(self._received or 0)
        if received:
            self.signal_number = received
            logger.warning("%s: saving a checkpoint at step %d, then stopping.", _name(received), state.global_step)
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number

    def _agree(self, received: int) -> int:
        """The signal that any process has received, the same answer in all; 0 if none."""
        if self._group is None:
            return received
        answer = torch.tensor(received)
        dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=self._group)
        return int(answer)


def shield_workers(dataloader: DataLoader) -> None:
    """Have a dataloader's worker processes outlive the signals that stop a run.

    A launcher and a terminal send them to all processes; without its workers the run could not finish its step.
    """
    dataloader = getattr(dataloader, "base_dataloader", dataloader)  # accelerate wraps the one that starts workers
    dataloader.worker_init_fn = partial(_start_shielded, dataloader.worker_init_fn)


def _start_shielded(start: Callable[[int], None] | None, worker: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if start is not None:
        start(worker)


def end_with_launcher() -> None:
    """Have the kernel send SIGTERM when the launcher, this process's parent, ends (Linux only).

    `accelerate launch` starts one process without passing signals on: a scheduler that stops the launcher would leave
    this one working, unseen.
    """
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:  # set by the launcher
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _name(number: int) -> str:
    return signal.Signals(number).name
