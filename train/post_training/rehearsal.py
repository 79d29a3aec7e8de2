"""Refuses settings that TRL, PEFT or the generation refuse, by a step of the run on a tiny model, before any data."""

import dataclasses
import io
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState
from datasets import Dataset
from transformers import GenerationConfig, PreTrainedTokenizerBase, PrinterCallback

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.errors import RunFailedError
from train.post_training.build_trainer import choose_trainer
from train.post_training.settings.arguments import LoraArguments
from train.post_training.settings.recipe import PostTrainingRecipe, settings_parser
from train.settings.parser import field_names, pick


# Checked elsewhere, or of no use for one step.
LEFT_OUT = {
    "max_steps": 1,
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": None,
    "warmup_steps": 0,
    "eval_strategy": "steps",  # TRL checks the sizes of evaluation with it only, and the last model is always evaluated
    "eval_steps": 1,
    "eval_on_start": False,
    "save_strategy": "no",
    "logging_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": [],
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": None,
    "full_determinism": False,
    "fp16": False,  # which a dry run may ask for on a CPU
    "fsdp": None,
    "fsdp_config": None,
    "torch_compile": False,
    "torch_compile_backend": None,
    "torch_compile_mode": None,
}
# The same as accelerate reads it.
VARIABLES = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP", "ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_DYNAMO_MODE")
MOST_TOKENS = 2  # of an answer that the tiny model writes
# By method: a row that fits into any length that there can be.
ROWS = {
    "sft": {"input_ids": [0, 1], "labels": [-100, 1]},
    "dpo": {"prompt_ids": [0], "chosen_ids": [1], "rejected_ids": [2]},
    "grpo": {"prompt": "Q: A", "exercise": None, "query": "A", "synthetic_answer": "B"},
}


def rehearse(recipe: PostTrainingRecipe, config: GPT2ScratchConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse, by a `ValueError` that names the setting, what would end the first step or the evaluation after it.

    Every process takes the same step. It prints nothing, and leaves files, random numbers and accelerate as they were.

    Args:
        config: that of the model to train; the tiny one has as many blocks, positions and tokens.
    """
    settings = recipe.all_settings
    failure = _failure(recipe, settings, config, tokenizer)
    if failure is None:
        return
    defaults = vars(settings_parser(["--method", recipe.method]).parse_args([]))
    read = {*field_names(type(recipe.training)), *field_names(LoraArguments)}.intersection(settings) - {*LEFT_OUT}
    changed = [name for name in settings if name in read and settings[name] != defaults[name]]
    # With any of these as it is by default, the step succeeds; several can be to blame, each alone.
    guilty = [
        name for name in changed if _failure(recipe, {**settings, name: defaults[name]}, config, tokenizer) is None
    ] or [name for name in changed if name in failure.replace(" ", "_")]
    given = " ".join(f"--{name} {settings[name]}" for name in guilty or changed)
    raise ValueError(f"{given}: a step of {recipe.method} on a tiny model fails: {failure}")


def _failure(
    recipe: PostTrainingRecipe, settings: dict, config: GPT2ScratchConfig, tokenizer: PreTrainedTokenizerBase
) -> str | None:
    """The reason why a step with these settings fails, in one line."""
    try:
        with tempfile.TemporaryDirectory() as folder, _leaving_no_trace(tokenizer):
            _take_step(recipe, {**settings, **LEFT_OUT, "output_dir": folder}, config, tokenizer)
    except RunFailedError:  # by the loss guard
        return "the loss is not a finite number"
    except Exception as error:
        return " ".join(str(error).split())[:400] or type(error).__name__
    return None


def _take_step(
    recipe: PostTrainingRecipe, settings: dict, config: GPT2ScratchConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = 2
    if recipe.method == "grpo":
        rows = settings["num_generations"]
        settings = {**settings, "max_completion_length": min(settings["max_completion_length"], MOST_TOKENS)}
    if settings.get("generation_batch_size") is None:
        settings = {**settings, "per_device_train_batch_size": rows, "gradient_accumulation_steps": 1}
    training = pick({**settings, "use_cpu": recipe.training.use_cpu}, type(recipe.training))
    if recipe.method == "grpo":  # else it takes half of the memory
        batching = training.transformers_continuous_batching_config or {}
        training.transformers_continuous_batching_config = {"num_blocks": 8, "max_batch_tokens": 64, **batching}
    tiny = GPT2ScratchConfig(**{**config.to_dict(), "n_embd": 8, "n_head": 1, "n_inner": None})
    model = GPT2ScratchForCausalLM._from_config(tiny, attn_implementation=config._attn_implementation)
    if recipe.method == "grpo" and settings["beta"]:  # TRL loads the reference from where the model was
        model.save_pretrained(training.output_dir)
        model.config._name_or_path = training.output_dir
    recipe = dataclasses.replace(recipe, training=training, lora=pick(settings, LoraArguments))
    generations = settings.get("steps_per_generation") or 1
    data = Dataset.from_list([ROWS[recipe.method]] * recipe.sequences_per_step * generations)
    trainer = choose_trainer(recipe, model, tokenizer, data, data.select([0]), data_name="", callbacks=[])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    if unknown := set(getattr(training, "generation_kwargs", None) or {}).difference(vars(GenerationConfig())):
        raise ValueError(f"generation has no setting {', '.join(sorted(unknown))}")
    if trainer.state.global_step != 1:
        raise ValueError("no batch comes of it")


@contextmanager
def _leaving_no_trace(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    padding, silenced, environment = tokenizer.pad_token, logging.root.manager.disable, dict(os.environ)
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (what Trainers seed)
    logging.disable(logging.CRITICAL)
    for name in VARIABLES:
        os.environ.pop(name, None)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.random.fork_rng(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        logging.disable(silenced)
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        tokenizer.pad_token = padding
        AcceleratorState._reset_state()
        GradientState._reset_state()
