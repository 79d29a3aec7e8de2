"""Ctrl-C and SIGTERM end a run with a checkpoint."""

import logging
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import TrainerCallback


logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop(TrainerCallback):
    """On the first Ctrl-C or SIGTERM, finishes the optimizer step, saves a checkpoint and stops; on a second Ctrl-C,
    stops at once.

    Differs from the Trainer's `enable_jit_checkpoint` in that it only ever saves between steps, so that the resumed run
    equals one that was never stopped, and in that all processes stop at the same step: a signal reaches them at
    different moments, and one that stopped alone would leave the others waiting for it.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None  # of the signal that stopped the run
        self._received = 0
        self._previous_handlers: dict[int, Any] = {}
        self._group: dist.ProcessGroup | None = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for number in SIGNALS:
            self._previous_handlers[number] = signal.signal(number, self._handle)
        if args.world_size > 1:
            # Of its own and on the CPU: agreeing must not make the host wait for the accelerator.
            self._group = dist.new_group(backend="gloo")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        received = torch.tensor(self._received)
        if self._group is not None:  # any process's signal is the signal of all
            dist.all_reduce(received, op=dist.ReduceOp.MAX, group=self._group)
        if received:
            self.signal_number = int(received)
            name = signal.Signals(self.signal_number).name
            logger.warning("%s: saving a checkpoint at step %d, then stopping.", name, state.global_step)
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number


def shield_workers(dataloader: DataLoader) -> DataLoader:
    """Have a dataloader's worker processes outlive the signals that stop a run; returns the dataloader. A launcher and
    a terminal send them to all processes; without its workers the run could not finish its step."""
    base = getattr(dataloader, "base_dataloader", dataloader)  # accelerate wraps the one that starts workers
    base.worker_init_fn = partial(_start_shielded, base.worker_init_fn)
    return dataloader


def _start_shielded(start: Callable[[int], None] | None, worker: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if start is not None:
        start(worker)
