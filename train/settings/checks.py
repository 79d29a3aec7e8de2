"""Refuses settings that do not fit together, or that a run would regret, before any data is read."""

import math
from typing import Any

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks

from train.settings.arguments import DataArguments, ModelArguments, OptimizerArguments, RunArguments


Refused = dict[str, tuple[Any, str]]  # by setting: the one value that does no harm, and what to do

REFUSED: Refused = {
    "dataloader_drop_last": (False, "it would drop evaluation batches, too. Leave it out: training uses whole batches"),
    "auto_find_batch_size": (False, "a resumed run would see other batches. Set --per_device_train_batch_size"),
    "dataloader_persistent_workers": (False, "a resumed run would draw other random numbers. Leave it out"),
    "enable_jit_checkpoint": (
        False,
        "it can save inside a step. SIGTERM saves a checkpoint without it, between two steps",
    ),
    "ignore_data_skip": (False, "a resumed run would see the first rows again. Leave it out"),
    "save_only_model": (False, "such checkpoints cannot be resumed from. Leave it out"),
    "prediction_loss_only": (True, "evaluation would keep all logits, for nothing. Leave it out"),
    "fp16_full_eval": (False, "it would save a model in fp16. Leave it out: evaluation is as precise as training"),
    "bf16_full_eval": (False, "it would save a model in bf16. Leave it out: evaluation is as precise as training"),
    "use_liger_kernel": (False, "its kernels know other models only. Leave it out"),
    "save_on_each_node": (False, "checkpoints lie in one folder that all machines share. Leave it out"),
    "deepspeed": (None, "checkpoints would not hold its state. Leave it out: --fsdp_size shards a model, too"),
    "fsdp": (None, "its checkpoints open nowhere else. Leave it out: --fsdp_size shards a model, too"),
    "fsdp_config": (None, "it is for --fsdp. Leave it out"),
    "accelerator_config": (None, "it changes batches that the recipe counts otherwise. Leave it out"),
    "parallelism_config": (None, "batches and checkpoints know nothing of it. Leave it out"),
    "push_to_hub": (
        False,
        "what the Trainer pushes lacks the model's code, and nobody could open it. Publish the finished run: "
        "python -m hub_card.publish RUN --repo_id you/name",
    ),
}


# Numbers of the Trainer's that must be above 0, and those that must not be above 1. An unset one passes.
ABOVE_ZERO = (
    *("learning_rate", "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "save_total_limit"),
    *("eval_accumulation_steps", "torch_empty_cache_steps", "dataloader_prefetch_factor", "ddp_bucket_cap_mb"),
    *("ddp_timeout", "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
)
BELOW_ONE = ("adam_beta1", "adam_beta2", "label_smoothing_factor", "embd_pdrop", "attn_pdrop", "resid_pdrop")
SEEDS = ("seed", "data_seed", "split_seed")
LARGEST_SEED = 2**32 - 1  # NumPy's
LARGEST = 2**53  # beyond it, a float skips whole numbers


def check_numbers(settings: dict, stock: dict) -> None:
    """Refuse numbers that nothing can count with: not finite, too large, or below 0 where the default is not."""
    for name, value in settings.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            default = stock[name] if isinstance(stock.get(name), int | float) else 0
            limit = LARGEST_SEED if name in SEEDS else LARGEST
            if not math.isfinite(number) or number > limit:
                raise ValueError(f"--{name} {number} must be a finite number, at most {limit}.")
            if number < min(0, default):
                raise ValueError(f"--{name} {number} must be at least {min(0, default):g}.")
            if name in ABOVE_ZERO and number <= 0:
                raise ValueError(f"--{name} {number} must be above 0.")
            if name in BELOW_ONE and number >= 1:
                raise ValueError(f"--{name} {number} must be below 1.")


def refuse_others(settings: dict, refused: Refused) -> None:
    """Refuse settings with another value than the one that does no harm."""
    for name, (harmless, remedy) in refused.items():
        if settings[name] != harmless:
            raise ValueError(f"--{name} {settings[name]}: {remedy}.")


def check_pretraining(
    model: ModelArguments, data: DataArguments, run: RunArguments, training: TrainingArguments
) -> None:
    _check_sharding(model, data.streaming, run, training)
    # With --init_from the model brings its own context, checked when it is loaded.
    if model.init_from is None and data.sequence_length > model.n_positions:
        raise ValueError(
            f"--sequence_length {data.sequence_length} is longer than the context, --n_positions {model.n_positions}: "
            "the model has no position embeddings beyond it. Lower the one or raise the other."
        )
    if data.streaming and training.max_steps <= 0:
        raise ValueError("--streaming needs --max_steps: how many rows a stream has is not known before its end.")
    if data.packing == "best_fit" and training.use_cache:
        raise ValueError("--use_cache true with --packing best_fit: documents would see each other. Leave it out.")


def _check_sharding(model: ModelArguments, streaming: bool, run: RunArguments, training: TrainingArguments) -> None:
    """Refuse sizes that do not divide, and what was not seen to be right with a model in shards."""
    part, processes = run.fsdp_size * run.tp_size, training.world_size
    if part == 1:
        return
    given = f"--fsdp_size {run.fsdp_size} --tp_size {run.tp_size}"
    if processes % part and not run.dry_run:
        raise ValueError(
            f"{given}: {processes} processes do not divide into groups of {part}. Start {part} of them, or a multiple."
        )
    inner = model.n_inner or 4 * model.n_embd
    if model.n_head % run.tp_size or inner % run.tp_size:
        raise ValueError(
            f"--tp_size {run.tp_size} must divide the heads, --n_head {model.n_head}, and the inner width, {inner}."
        )
    if run.tp_size > 1 and streaming:
        raise ValueError(f"--tp_size {run.tp_size}: each process reads a stream of its own. Use --fsdp_size.")
    if run.tp_size > 1 and training.optim not in ("adamw_torch_fused", "adamw_torch"):
        raise ValueError(f"--tp_size {run.tp_size} with --optim {training.optim.value}: use AdamW or Muon.")
    for name in ("fp16", "torch_compile"):
        if vars(training)[name]:
            raise ValueError(f"{given}: no run with --{name} true was seen to be right. Leave it out.")


def check_trainer(training: TrainingArguments, optimizer: OptimizerArguments) -> None:
    """Refuse what the Trainer would accept and the user would regret."""
    _check_steps(training, optimizer)
    if training.n_gpu > 1:
        raise ValueError(
            f"One process for {training.n_gpu} GPUs, by nn.DataParallel, is slow. Start one for each with accelerate "
            "launch, or choose a GPU: CUDA_VISIBLE_DEVICES=0."
        )
    if not set(training.report_to) <= {"tensorboard"}:
        get_reporting_integration_callbacks(training.report_to)  # raises with the names that there are
        missing = sorted(set(training.report_to) - set(get_available_reporting_integrations()))
        if missing:
            raise ValueError(f"--report_to {missing[0]}: its library is not installed here: pip install {missing[0]}.")
    if optimizer.differs_from_stock and training.optim not in ("adamw_torch_fused", "adamw_torch"):
        raise ValueError(
            f"--optim {training.optim.value} does not go with --optim_name muon, --hidden_lr_scale or "
            "--embedding_lr_scale, which are for AdamW: leave out the one or the others."
        )


def _check_steps(training: TrainingArguments, optimizer: OptimizerArguments) -> None:
    """Refuse a decay given twice, or longer than the run together with the warmup, where its steps are known."""
    if "num_decay_steps" in (training.lr_scheduler_kwargs or {}):
        raise ValueError("--lr_scheduler_kwargs with num_decay_steps: say it by --decay_steps.")
    steps = training.max_steps
    decay = optimizer.decay_steps if training.lr_scheduler_type == "warmup_stable_decay" else 0
    needed = sum(part if part >= 1 else math.ceil(part * steps) for part in (training.warmup_steps, decay))
    if 0 < steps < needed:
        also = f" and --decay_steps {decay:g}" if decay else ""
        raise ValueError(
            f"--warmup_steps {training.warmup_steps:g}{also} take {needed:g} steps, the run has {steps} (--max_steps): "
            "lower the one, or raise the other. Below 1, it is a share of the run."
        )
