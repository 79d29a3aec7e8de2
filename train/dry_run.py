"""Tells what a pre-training recipe amounts to, before it runs: parameters, tokens, steps, memory."""

import dataclasses
import math

import torch
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.next_token_loss import chunk_rows
from train.build_model import build_config
from train.callbacks.flops import DATA_SHEET_BF16, data_sheet_peak_flops, flops_per_token, measured_peak_flops
from train.data.from_settings import to_preparations
from train.data.rows.reading import first_rows
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepare import load_prepared
from train.data.sequences.prepared_sequences import epoch_counts, to_shares
from train.hardware import describe_precision
from train.settings.recipe import Recipe


ROWS_TO_ESTIMATE_FROM = 1000
GIB = 2**30
# GPUs that people have, and the GiB of each that torch can use.
GPUS_GIB = {"RTX 8 GB": 7.8, "RTX 12 GB": 11.7, "T4 16 GB": 14.6, "RTX 24 GB": 23.5, "A100 40 GB": 39.4, "80 GB": 79.1}
OTHER_GIB = 0.8  # of them, what CUDA itself, its libraries' workspaces and holes between tensors take
TIMED_GPUS = ("H100", "A100", "RTX 4090", "RTX 3090")
T4_FP16 = 65e12  # FLOP/s, by its data sheet
USED_OF_PEAK = 0.4  # as llm.c and modded-nanogpt on H100s (train/benchmark/README.md)


def describe_plan(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The figures that follow from a recipe, by name; reads at most a thousand rows, `--decontaminate`'s texts, and
    local files for their hashes."""
    config, training = build_config(recipe.model, tokenizer), recipe.training
    with torch.device("meta"):
        parameters = GPT2ScratchForCausalLM(config).num_parameters()
    plan, tokens = _describe_data(recipe, tokenizer)
    state = state_bytes(config, parameters, recipe.optimizer.optim_name, recipe.run.fsdp_size, recipe.run.tp_size)
    activations, activations_on_gpu = (
        activation_bytes(
            config,
            device_type=device_type,
            sequences=training.per_device_train_batch_size,
            sequence_length=recipe.data.sequence_length,
            half=training.bf16 or training.fp16,
            checkpointing=training.activation_checkpointing,
            eager=recipe.model.attn_implementation == "eager",
        )
        for device_type in ("cuda" if training.fp16 else training.device.type, "cuda")
    )
    copied_bytes = state_bytes(config, parameters, recipe.optimizer.optim_name) - 4 * parameters
    copied = f"; {copied_bytes / GIB:.1f} more of the host's in the main process, for --async_save"
    return {
        "parameters": f"{parameters:,}",
        "tokens per step": recipe.describe_step(),
        **plan,
        **(_describe_compute(recipe, config, parameters, tokens) if tokens else {}),
        "memory per process": f"about {(state + activations) / GIB:.1f} GiB (weights, gradients and the optimizer's "
        f"averages {state / GIB:.1f}, activations and head {activations / GIB:.1f})"
        + (copied if recipe.run.async_save else ""),
        "precision": describe_precision(training),
        "fits a GPU": _describe_gpus((state + activations_on_gpu) / GIB, training.bf16),
    }


def state_bytes(
    config: GPT2ScratchConfig, parameters: int, optim_name: str, fsdp_size: int = 1, tp_size: int = 1
) -> int:
    """Bytes of a process's weights, gradients, and AdamW's two averages of each; Muon keeps one for the blocks'
    matrices. Of a model in shards, while it computes: embeddings and a block are gathered, weights and gradients."""
    C, F = config.n_embd, config.feed_forward_size
    block = 4 * C * C + 2 * C * F
    hidden = config.n_layer * block
    kept = 16 * parameters - (4 * hidden if optim_name == "muon" else 0)
    rest = parameters - hidden
    gathered = 8 * (rest + block // tp_size) if fsdp_size > 1 else 0
    return (16 * rest + (kept - 16 * rest) // tp_size) // fsdp_size + gathered


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
    """The peak of activations, logits and their gradients in a training step of one process on a GPU, not compiled.
    Compiled, and on CPUs, it is less: GELU's output, at least, is made again in the backward pass.

    What a block keeps for that is counted tensor by tensor. Autocast leaves the residual stream in 32-bit, casts the
    input of each projection by itself, and keeps a 16-bit copy of every weight.
    """
    tokens, C, F = sequences * sequence_length, config.n_embd, config.feed_forward_size
    V, size = config.vocab_size, 2 if half else 4
    norm_inputs, normed = 2 * 4 * C, size * C * (4 if half else 2)
    masks = C * (config.resid_pdrop > 0) * 2
    block = norm_inputs + normed + size * 4 * C + masks + size * 2 * F  # 4 C: queries, keys, values and their mix
    if eager:  # scores, their softmax and the dropout mask: (B, H, T, T) each
        block += sequence_length * config.n_head * 9
    kept = 4 * C * config.n_layer + block if checkpointing else block * config.n_layer
    around = 3 * 4 * C  # the final norm's input and output, and its gradient
    casts = 2 * config.n_layer * (4 * C * C + 2 * C * F) if half else 0
    # A chunk of logits; on accelerators 32-bit and their log-probabilities.
    logits = min(chunk_rows(device_type, size), tokens) * V * (size if device_type == "cpu" else 8)
    head = 4 * V * C + 2 * V * C * half
    in_backward = tokens * 2 * size * F  # GELU's gradients
    return tokens * (kept + around) + casts + head + max(logits, in_backward)


def _describe_gpus(needed_gib: float, bf16: bool) -> str:
    """Whether a process of so many GiB fits each of the known GPUs, and that of this machine."""
    gpus = dict(GPUS_GIB)
    if torch.cuda.is_available():
        gpus[f"this {torch.cuda.get_device_name()}"] = torch.cuda.get_device_properties().total_memory / GIB
    words = {name: "yes" if needed_gib + OTHER_GIB < gib else "no" for name, gib in gpus.items()}
    if bf16:
        words["T4 16 GB"] += ", but it has no bf16"
    return "; ".join(f"{name}: {word}" for name, word in words.items())


def _describe_compute(recipe: Recipe, config: GPT2ScratchConfig, parameters: int, tokens: int) -> dict[str, str]:
    """Tokens beside parameters, and the arithmetic of a run with the hours that it takes."""
    training = recipe.training
    flops = tokens * flops_per_token(config, recipe.data.sequence_length)
    in_bf16 = "" if training.bf16 or training.fp16 else ", with --bf16"  # the data sheets' peaks are those of 16 bits
    peaks = {name + in_bf16: DATA_SHEET_BF16[name] for name in TIMED_GPUS}
    if training.fp16:
        peaks["T4"] = T4_FP16
    dtype = torch.bfloat16 if training.bf16 else torch.float16 if training.fp16 else torch.float32
    if training.device.type != "cpu" or dtype != torch.float16:
        here = data_sheet_peak_flops(training.device) if dtype != torch.float32 else None
        here = here or measured_peak_flops(training.device, dtype, seconds=0.2, size_on_gpus=4096)
        peaks[f"this machine, {training.world_size} process(es)"] = here * training.world_size
    hours = (f"{name} {flops / (USED_OF_PEAK * peak) / 3600:,.3g}" for name, peak in peaks.items())
    return {
        "tokens per parameter": f"{tokens / parameters:.3g} (Chinchilla's, for the lowest loss of a given compute: 20; "
        "models that are to be small are trained on ten times as many)",
        "compute": f"{flops:.3g} FLOPs, {flops / tokens:.3g} a token",
        f"hours at {USED_OF_PEAK:.0%} of the peak": "; ".join(hours),
    }


def _describe_data(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> tuple[dict[str, str], int | None]:
    """The steps of a run, and of several datasets the part of each; with the run's tokens, where they are known."""
    data, training, several = recipe.data, recipe.training, len(recipe.data.dataset) > 1
    by_steps = training.max_steps >= 0
    steps = f"{training.max_steps:,} (--max_steps), {training.max_steps * recipe.tokens_per_step:,} tokens"
    shares = [f"{float(share):.1%}" for share in to_shares(data.dataset_weights or [])]
    plan = {"steps": steps, **({"datasets": _list_parts(data.dataset, shares)} if several and shares else {})}
    run_tokens = training.max_steps * recipe.tokens_per_step if by_steps else None
    if by_steps and (data.streaming or not several):
        return plan, run_tokens
    try:
        counted = [_count_training_tokens(preparation) for preparation in to_preparations(data, tokenizer)]
        unknown = next((f"unknown before the data is prepared ({how})" for tokens, how in counted if not tokens), None)
    except ConnectionError as error:  # the Hub cannot be reached: the rest of the plan still stands
        unknown = f"unknown: {', '.join(data.dataset)} cannot be read ({type(error).__name__})"
    if unknown is not None:
        return plan | ({"passes over them": unknown} if by_steps else {"steps": unknown}), run_tokens
    sizes = [max(tokens // data.sequence_length, 1) for tokens, _ in counted if tokens]
    counts = epoch_counts(sizes, data.dataset_weights if several else None, recipe.sequences_per_step)
    parts = [
        f"{count / sum(counts):.1%}, {count / size:.3g} passes in an epoch"
        for count, size in zip(counts, sizes, strict=True)
    ]
    if not by_steps:
        steps_per_epoch, epochs = sum(counts) // recipe.sequences_per_step, training.num_train_epochs
        tokens, how = sum(tokens for tokens, _ in counted if tokens), counted[-1][1]
        run_steps = math.ceil(steps_per_epoch * epochs)
        run_tokens = run_steps * recipe.tokens_per_step
        steps = f"{run_steps:,} = {epochs:g} epochs x {steps_per_epoch:,} ({tokens:,} training tokens, {how})"
    return {"steps": steps, **({"datasets": _list_parts(data.dataset, parts)} if several else {})}, run_tokens


def _list_parts(names: list[str], parts: list[str]) -> str:
    return "; ".join(f"{name} {part}" for name, part in zip(names, parts, strict=True))


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
