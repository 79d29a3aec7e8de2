"""What a recipe amounts to, before it is run: parameters, tokens, steps, memory."""

import dataclasses
import math

import torch
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.next_token_loss import CHUNK_ROWS
from train.build_model import build_config
from train.data.from_settings import to_preparation
from train.data.rows.reading import first_rows
from train.data.rows.synth import row_to_text
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepare import load_prepared
from train.settings.recipe import Recipe


ROWS_TO_ESTIMATE_FROM = 1000
GIB = 2**30


def describe_plan(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> str:
    """The resolved recipe and what follows from it, as text; reads at most a thousand rows."""
    config = build_config(recipe.model, tokenizer)
    with torch.device("meta"):
        model = GPT2ScratchForCausalLM(config)
    parameters = model.num_parameters()
    training = recipe.training
    memory = estimate_memory_bytes(config, parameters, recipe)
    state = state_bytes(config, parameters, recipe)
    lines = [
        recipe.to_yaml(),
        f"parameters          {parameters:,}"
        + (" (of a fresh model; --init_from decides)" if recipe.model.init_from else ""),
        f"tokens per step     {recipe.tokens_per_step:,} = {training.train_batch_size} sequences "
        f"x {training.gradient_accumulation_steps} accumulated x {training.world_size} processes "
        f"x {recipe.data.sequence_length} tokens",
        f"steps               {_describe_steps(recipe, tokenizer)}",
        f"memory per process  about {memory / GIB:.1f} GiB (weights, gradients and the optimizer's "
        f"averages {state / GIB:.1f}, activations and head {(memory - state) / GIB:.1f})",
    ]
    return "\n".join(lines)


def estimate_memory_bytes(config: GPT2ScratchConfig, parameters: int, recipe: Recipe) -> int:
    """Peak memory of a training step in one process: tensors only, without the interpreter and its libraries.

    Each block keeps, for the backward pass, about 26 bytes a token and unit of width in 16-bit: the 34 of Korthikanti
    et al., 2022, equation 2, without GELU's output, which is made again, and without stored attention weights. In
    32-bit it is twice that, but for the dropout masks, which stay one byte. The head keeps one chunk of logits and the
    gradient of its weight.
    """
    training = recipe.training
    tokens = training.per_device_train_batch_size * recipe.data.sequence_length
    half = training.bf16 or training.fp16
    bytes_per_unit = 26 if half else 48
    if training.activation_checkpointing:
        blocks = tokens * config.n_embd * ((2 if half else 4) * config.n_layer + bytes_per_unit)
    else:
        blocks = tokens * config.n_embd * bytes_per_unit * config.n_layer
    if recipe.model.attn_implementation == "eager":
        # Scores, their softmax and the dropout mask: (B, H, T, T) each, in every block.
        blocks += tokens * recipe.data.sequence_length * config.n_head * 9 * config.n_layer
    head = min(CHUNK_ROWS, tokens) * config.vocab_size * 4 + config.vocab_size * config.n_embd * 4
    return state_bytes(config, parameters, recipe) + blocks + head


def state_bytes(config: GPT2ScratchConfig, parameters: int, recipe: Recipe) -> int:
    """Weights, gradients, and AdamW's two averages of each; Muon keeps one, of the blocks' matrices."""
    C, F = config.n_embd, config.feed_forward_size
    hidden = config.n_layer * (4 * C * C + 2 * C * F) if recipe.optimizer.optim_name == "muon" else 0
    return 16 * parameters - 4 * hidden


def _describe_steps(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> str:
    training = recipe.training
    if training.max_steps > 0:
        return f"{training.max_steps:,} (--max_steps), {training.max_steps * recipe.tokens_per_step:,} tokens"
    try:
        tokens, how = _count_training_tokens(to_preparation(recipe.data, tokenizer))
    except OSError as error:  # the Hub cannot be reached: the rest of the plan still stands
        return f"unknown: {recipe.data.dataset} cannot be read ({type(error).__name__})"
    if tokens is None:
        return f"unknown before the data is prepared ({how})"
    steps_per_epoch = tokens // recipe.tokens_per_step
    steps = math.ceil(steps_per_epoch * training.num_train_epochs)
    return f"{steps:,} = {training.num_train_epochs:g} epochs x {steps_per_epoch:,} ({tokens:,} training tokens, {how})"


def _count_training_tokens(preparation: Preparation) -> tuple[int | None, str]:
    """Training tokens and how they are known: counted where the data is prepared, else judged by the first rows."""
    if preparation.is_whole:
        train = load_prepared(preparation).train
        return len(train) * train.sequence_length, "counted"
    first = first_rows(preparation.source, ROWS_TO_ESTIMATE_FROM)
    row_filter = dataclasses.replace(preparation.row_filter, evaluation_sets=())  # which leave out few
    usable = [row for row in first if row_filter.judge(row)[0] is None]
    rows_total = preparation.source.count_rows()
    rows = preparation.limit.rows
    if rows_total is not None:
        rows = min(rows, rows_total * len(usable) / len(first))
    if rows == math.inf or not usable:
        return None, "its number of rows is not known"
    token_lists = preparation.tokenizer([row_to_text(row) for row in usable], split_special_tokens=True)["input_ids"]
    tokens_per_row = sum(len(token_ids) + 1 for token_ids in token_lists) / len(usable)
    tokens = rows * tokens_per_row * (1 - row_filter.validation_fraction)
    return round(min(tokens, preparation.limit.train_tokens)), f"estimated from the first {len(first):,} rows"
