"""Writing the large files of a checkpoint in a thread, while training goes on (`--async_save`)."""

import copy
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel, TrainerCallback
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from modeling_gpt2scratch.saved_folder import share_weight_files
from train.run_files import WEIGHTS_FILE


logger = logging.getLogger(__name__)

States = dict[Path, dict]  # by file: the state that it will hold


@contextmanager
def taking_states(owners: dict[Path, Any]) -> Iterator[States]:
    """Keep the tensors out of the checkpoint that the stock Trainer writes: `state_dict()` of the given models
    and optimizers returns an empty dictionary to it. Yields a dictionary that then holds the real states, by file."""
    states: States = {}

    def take(file: Path, owner: Any, state: dict, *unused: Any) -> None:
        is_model = isinstance(owner, PreTrainedModel)
        states[file] = remove_tied_weights_from_state_dict(dict(state), owner) if is_model else dict(state)
        state.clear()

    with ExitStack() as hooks:
        for file, owner in owners.items():
            hooks.enter_context(owner.register_state_dict_post_hook(partial(take, file)))
        yield states


def write_states(states: States) -> None:
    """Write states into their files, as transformers' Trainer writes them."""
    for file, state in states.items():
        if file.name == WEIGHTS_FILE:
            save_file(state, file, metadata={"format": "pt"})
            share_weight_files(file.parent)
        else:
            torch.save(state, file)


class BackgroundWriter(TrainerCallback):
    """Copies states as they are at a step, and writes the copies in a thread, one checkpoint at a time. What fails
    there is raised at the end of the next step. The thread talks to no other process, so that it needs no group of
    processes; where training ends, all processes wait for it.

    torch's `async_save` writes a format that `from_pretrained` does not open. Its stager waits for the device after the
    copies, and pins memory for CUDA only. The memory of the copies is kept: filling fresh memory takes three times as
    long, and pinning it longer.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: Future = Future()  # the last write, as if one had been
        self._writing.set_result(None)
        self._memory: list[torch.Tensor] = []
        self._has_waited = False

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if control.should_training_stop:
            self.join()
        elif self._writing.done():
            self._writing.result()

    on_epoch_end = on_step_end

    def join(self, place: Path | None = None) -> None:
        """Wait until the files are complete, in all processes; raises what has failed. Says once that it takes time
        before a checkpoint, `place`, can be saved."""
        if place is not None and not self._writing.done() and not self._has_waited:
            self._has_waited = True
            logger.warning(
                "%s waits, as the one before it is still being written: with a higher --save_steps, it would not.",
                place.name,
            )
        self._writing.result()
        PartialState().wait_for_everyone()

    def settle(self) -> None:
        """Wait until nothing is written any more, however it ends."""
        wait([self._writing])

    def start(self, states: States, complete: Callable[[States], None]) -> None:
        """Copy `states` into the host's memory, and call `complete` with the copies in the thread; waits for no
        accelerator."""
        tensors = [leaf for leaf in tree_leaves(states) if isinstance(leaf, torch.Tensor)]
        kind = next((tensor.device.type for tensor in tensors if tensor.device.type != "cpu"), "cpu")
        pinned = kind not in ("cpu", "mps")  # Apple's GPUs have no pinned memory
        if [(at.shape, at.dtype) for at in self._memory] != [(tensor.shape, tensor.dtype) for tensor in tensors]:
            self._memory = [torch.empty_like(tensor, device="cpu", pin_memory=pinned) for tensor in tensors]
        for at, tensor in zip(self._memory, tensors, strict=True):
            at.copy_(tensor, non_blocking=pinned)
        arrived = torch.Event(device=kind) if pinned else None
        if arrived is not None:
            arrived.record()
        copies = copy.deepcopy(states, {id(tensor): at for tensor, at in zip(tensors, self._memory, strict=True)})

        def write() -> None:
            if arrived is not None:
                arrived.synchronize()
            complete(copies)

        self._writing = self._thread.submit(write)
