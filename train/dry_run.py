"""Tells what a pre-training recipe amounts to, before it runs: parameters, tokens, steps, memory."""

import dataclasses
import math

import torch
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.next_token_loss import chunk_rows
from train.build_model import build_config
from train.data.from_settings import to_preparations
from train.data.rows.reading import first_rows
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepare import load_prepared
from train.settings.arguments import DataArguments
from train.settings.recipe import Recipe


ROWS_TO_ESTIMATE_FROM = 1000
GIB = 2**30


def describe_plan(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The figures that follow from a recipe, by name; reads at most a thousand rows, `--decontaminate`'s texts, and
    local files for their hashes."""
    config, training = build_config(recipe.model, tokenizer), recipe.training
    with torch.device("meta"):
        parameters = GPT2ScratchForCausalLM(config).num_parameters()
    state = state_bytes(config, parameters, recipe.optimizer.optim_name)
    activations = activation_bytes(
        config,
        device_type=training.device.type,
        sequences=training.per_device_train_batch_size,
        sequence_length=recipe.data.sequence_length,
        half=training.bf16 or training.fp16,
        checkpointing=training.activation_checkpointing,
        eager=recipe.model.attn_implementation == "eager",
    )
    if training.max_steps >= 0:
        steps = f"{training.max_steps:,} (--max_steps), {training.max_steps * recipe.tokens_per_step:,} tokens"
    else:
        steps = _describe_steps(recipe.data, tokenizer, training.num_train_epochs, recipe.tokens_per_step)
    return {
        "parameters": f"{parameters:,}",
        "tokens per step": recipe.describe_step(),
        "steps": steps,
        "memory per process": f"about {(state + activations) / GIB:.1f} GiB (weights, gradients and the optimizer's "
        f"averages {state / GIB:.1f}, activations and head {activations / GIB:.1f})",
    }


def state_bytes(config: GPT2ScratchConfig, parameters: int, optim_name: str) -> int:
    """Bytes of weights, gradients, and AdamW's two averages of each; Muon keeps one for the blocks' matrices."""
    C, F = config.n_embd, config.feed_forward_size
    hidden = config.n_layer * (4 * C * C + 2 * C * F) if optim_name == "muon" else 0
    return 16 * parameters - 4 * hidden


def activation_bytes(
    config: GPT2ScratchConfig,
    *,
    device_type: str,
    sequences: int,
    sequence_length: int,
    half: bool,
    checkpointing: bool,
    eager: bool,
) -> int:
    """The peak of activations, logits and their gradients in a training step of one process.

    For the backward pass, each block keeps about 26 bytes per token and unit of width in 16-bit: the 34 of Korthikanti
    et al., 2022, equation 2, without GELU's output, which is computed again, and without attention weights. In 32-bit
    it keeps twice that, except for the dropout masks of one byte. The head keeps one chunk of logits (on
    accelerators also their log-probabilities) and the gradient of its weight.
    """
    tokens = sequences * sequence_length
    bytes_per_unit = 26 if half else 48
    if checkpointing:
        blocks = tokens * config.n_embd * ((2 if half else 4) * config.n_layer + bytes_per_unit)
    else:
        blocks = tokens * config.n_embd * bytes_per_unit * config.n_layer
    if eager:
        # Scores, their softmax and the dropout mask: (B, H, T, T) each, in every block.
        blocks += tokens * sequence_length * config.n_head * 9 * config.n_layer
    bytes_per_logit = 4 if device_type == "cpu" else 8
    logits = min(chunk_rows(device_type), tokens) * config.vocab_size * bytes_per_logit
    return blocks + logits + config.vocab_size * config.n_embd * 4


def _describe_steps(
    data: DataArguments, tokenizer: PreTrainedTokenizerBase, epochs: float, tokens_per_step: int
) -> str:
    try:
        tokens, how = _count_training_tokens(to_preparations(data, tokenizer)[0])
    except OSError as error:  # the Hub cannot be reached: the rest of the plan still stands
        return f"unknown: {', '.join(data.dataset)} cannot be read ({type(error).__name__})"
    if tokens is None:
        return f"unknown before the data is prepared ({how})"
    steps_per_epoch = tokens // tokens_per_step
    steps = math.ceil(steps_per_epoch * epochs)
    return f"{steps:,} = {epochs:g} epochs x {steps_per_epoch:,} ({tokens:,} training tokens, {how})"


def _count_training_tokens(preparation: Preparation) -> tuple[int | None, str]:
    """Training tokens and how they are known: counted where the data is prepared, else judged by the first rows."""
    if preparation.is_whole:
        train = load_prepared(preparation).train
        return len(train) * train.sequence_length, "counted"
    schema = preparation.row_filter.schema
    first = first_rows(preparation.source, ROWS_TO_ESTIMATE_FROM, schema)
    row_filter = dataclasses.replace(preparation.row_filter, evaluation_sets=())  # which leave out few
    usable = [row for row in first if row_filter.judge(row)[0] is None]
    rows_total = preparation.source.count_rows()
    rows = preparation.limit.rows
    if rows_total is not None:
        rows = min(rows, rows_total * len(usable) / len(first))
    if rows == math.inf or not usable:
        return None, "its number of rows is not known"
    texts = [text for row in usable for text in schema.to_texts(row)]
    token_lists = preparation.tokenizer(texts, split_special_tokens=True)["input_ids"]
    tokens_per_row = sum(len(token_ids) + 1 for token_ids in token_lists) / len(usable)
    tokens = rows * tokens_per_row * (1 - row_filter.validation_fraction)
    return round(min(tokens, preparation.limit.train_tokens)), f"estimated from the first {len(first):,} rows"
