"""What a run trains on."""

import logging
import os
import sys

import torch

from train.recipe import Recipe


logger = logging.getLogger(__name__)


def set_up_hardware(recipe: Recipe) -> None:
    """Use all cores when training on CPUs, and say what the run trains on."""
    training = recipe.training
    where = f"{training.world_size} process(es) on {training.device.type}"
    if training.device.type == "cpu":
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(recipe.run.cpu_threads or max(1, available_cores() // local_processes))
        where += f", {torch.get_num_threads()} thread(s) each"
    logger.info("%s; %s tokens a step", where, f"{recipe.tokens_per_step:,}")


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
