"""What a run trains on."""

import ctypes
import logging
import os
import sys

import torch
from transformers import PreTrainedModel

from train.settings.recipe import RunRecipe


logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3  # mallopt's name of it, in glibc's malloc.h
RETURNED_BYTES = 4 * 2**20


def set_up_hardware(recipe: RunRecipe) -> None:
    """Use all cores when training on CPUs, and say what the run trains on."""
    training = recipe.training
    where = f"{training.world_size} process(es) on {training.device.type}"
    if training.device.type == "cpu":
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(recipe.run.cpu_threads or max(1, available_cores() // local_processes))
        where += f", {torch.get_num_threads()} thread(s) each"
    logger.info("%s; %s tokens per step", where, f"{recipe.tokens_per_step:,}")


def return_freed_memory(model: PreTrainedModel) -> None:
    """Have glibc give tensors over 4 MB back as soon as they are freed, when training a small model on CPUs.

    By itself it learns to keep all up to 32 MB for the next ones, in a heap with holes. That costs a small model, whose
    head is most of it, memory and gains it no time; a larger model would be slower by up to 30%, so it is left alone
    (see train/experiments/README.md).
    """
    head = model.get_output_embeddings()
    mostly_head = 2 * head.weight.numel() > model.num_parameters()
    if model.device.type == "cpu" and sys.platform == "linux" and mostly_head:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries of Linux have none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, RETURNED_BYTES)


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
