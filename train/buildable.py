"""Refuses settings that name what cannot be built, by building it on a tiny model, before any data is read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, get_scheduler

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.optim.schedules import schedule_options
from train.run_files import RESULTS_FILE
from train.settings.recipe import RunRecipe


STEPS = 1000  # of a run whose length the data decides


def check_buildable(recipe: RunRecipe) -> None:
    """Try, on a tiny model, what the recipe's run will need on this machine.

    Raises:
        ValueError: a folder cannot be written; or the attention function, the optimizer, the schedule or the data
            loader's workers cannot be built, or cannot take a step.
    """
    training, settings = recipe.training, recipe.all_settings
    if not (recipe.run_folder / RESULTS_FILE).exists():  # into a finished run, nothing may be left to write
        check_folder("output_dir", recipe.run_folder)
        if settings["data_cache_dir"] is not None:
            check_folder("data_cache_dir", Path(settings["data_cache_dir"]).expanduser())
    config = GPT2ScratchConfig(
        vocab_size=16, n_positions=16, n_embd=16, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    attention = settings["attn_implementation"]
    with _naming(settings, "attn_implementation"):
        model = GPT2ScratchForCausalLM._from_config(config, attn_implementation=attention)
        if training.device.type == "cpu":
            ids = torch.zeros(1, 8, dtype=torch.int64)
            model(input_ids=ids, labels=ids).loss.backward()  # flex attention has none on CPUs
    with _naming(settings, "optim", "optim_args", "optim_target_modules"):
        kind, options = Trainer.get_optimizer_cls_and_kwargs(training, model)
        if options.keys().isdisjoint(("params", "model", "optimizer_dict")):  # those bring weights of their own
            options["params"] = model.parameters()
        optimizer = kind(**options)
    with _naming(settings, "lr_scheduler_type", "lr_scheduler_kwargs"):
        schedule, steps = training.lr_scheduler_type, training.max_steps if training.max_steps > 0 else STEPS
        built = get_scheduler(
            schedule,
            optimizer=torch.optim.SGD(model.parameters(), lr=training.learning_rate),
            num_warmup_steps=training.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=schedule_options(
                schedule, training.lr_scheduler_kwargs, recipe.optimizer.decay_steps, steps
            ),
        )
        for step in (0, steps // 2, steps):  # a wrong type shows where a rate is computed
            if hasattr(built, "lr_lambdas") and not 0 <= (rate := built.lr_lambdas[0](step)) < float("inf"):
                raise ValueError(f"the rate would be {rate} times --learning_rate at step {step}")
    names = (f"dataloader_{name}" for name in ("num_workers", "prefetch_factor", "multiprocessing_context"))
    with _naming(settings, *names):
        DataLoader(
            cast(Dataset, [0]),
            num_workers=training.dataloader_num_workers,
            prefetch_factor=training.dataloader_prefetch_factor,
            multiprocessing_context=training.dataloader_multiprocessing_context,
        )
    if training.device.type == "cpu" and not recipe.optimizer.differs_from_stock:
        with _naming(settings, "optim", "optim_args"):
            optimizer.step()


@contextmanager
def _naming(settings: dict, *names: str) -> Iterator[None]:
    """Turn whatever is raised into one line that names these settings."""
    try:
        yield
    except Exception as error:
        given = " ".join(f"--{name} {settings[name]}" for name in names if settings[name] is not None)
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(f"{given}: this machine cannot train with it: {reason}") from error


def check_folder(name: str, folder: Path) -> None:
    """Refuse a folder that cannot be made or written."""
    above = folder.absolute()
    while not above.exists() and not above.is_symlink():
        above = above.parent
    if not above.is_dir():
        raise ValueError(f"--{name} {folder}: {above} is not a folder. Choose another.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"--{name} {folder}: {above} cannot be written. Choose another, or mount it for writing.")
