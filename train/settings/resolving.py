"""Brings the settings of a run in line with what will run, so that its recipe records that.

The precision may come from accelerate's configuration, a model's sizes from `--init_from`, whether a figure is better
when it is higher from the figure, and accumulation from the global batch and the number of processes.
"""

import os
from typing import Any

from transformers import AutoConfig

from modeling_gpt2scratch import GPT2ScratchConfig


# The figures of an evaluation that can choose the best checkpoint, by method; whether higher is better.
LANGUAGE_MODEL = {"loss": False, "perplexity": False, "bits_per_byte": False}
METRICS: dict[str | None, dict[str, bool]] = {
    None: LANGUAGE_MODEL,  # pre-training
    "sft": LANGUAGE_MODEL,
    "dpo": {
        "loss": False,
        "rewards/accuracies": True,
        "rewards/margins": True,
        "rewards/chosen": True,
        "rewards/rejected": False,
        "logps/chosen": True,
        "logps/rejected": False,
        "mean_token_accuracy": True,
    },
    "grpo": {
        "loss": False,
        "reward": True,
        "rewards/accuracy_reward/mean": True,
        "rewards/format_reward/mean": True,
        "completions/clipped_ratio": False,
    },
}
# What accelerate's configuration or the environment switches on for a run, and the setting that records it, if any.
LAUNCHED: dict[str, str | None] = {
    "ACCELERATE_DYNAMO_BACKEND": "torch_compile",
    "ACCELERATE_USE_FSDP": None,
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": None,
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": None,
    "ACCELERATE_USE_DEEPSPEED": None,
    "ACCELERATE_USE_MEGATRON_LM": None,
    "ACCELERATE_USE_PARALLELISM_CONFIG": None,
    "ACCELERATE_TORCH_DEVICE": None,
    "NVIDIA_TF32_OVERRIDE": "tf32",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "tf32",
}
SIZES = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "initializer_range")


def resolve(settings: dict, on_cpu: bool) -> dict:
    """The settings as they will run; a `ValueError` where accelerate's configuration contradicts them, the hardware
    lacks the precision, or the metric for the best checkpoint is none of the run's."""
    for variable, name in LAUNCHED.items():
        value = os.environ.get(variable, "no")
        if value.lower() not in ("no", "false", "0", "") and (name is None or not settings[name]):
            instead = f", or set --{name}" if name else "; --fsdp_size shards a model" * ("FSDP" in variable)
            raise ValueError(
                f"{variable}={value}: accelerate's configuration, or the environment, changes the run, and the recipe "
                f"would not say so. Take it out there{instead}."
            )
    return {
        **settings,
        **_accumulation(settings),
        **_precision(settings, on_cpu),
        **_direction(settings),
        **_sizes(settings),
        **_tokenizer(settings),
    }


def reader_count(settings: dict) -> int:
    """The processes of the launch with batches of their own: those that share each matrix read the same ones."""
    return max(int(os.environ.get("WORLD_SIZE", "1")) // settings["tp_size"], 1)


def _accumulation(settings: dict) -> dict[str, int]:
    if settings["global_batch_size"] is None:
        return {}
    sequences, batch = settings["global_batch_size"], settings["per_device_train_batch_size"]
    return {
        "gradient_accumulation_steps": accumulation_for(sequences, batch, reader_count(settings), "--global_batch_size")
    }


def accumulation_for(sequences_per_step: int, sequences_per_batch: int, processes: int, asked_by: str) -> int:
    """Batches of each process to accumulate so that a step sees so many sequences; a `ValueError`, which begins with
    who asks for these, and has the numbers of processes that would work, where no whole number of batches does."""
    accumulated, missing = divmod(sequences_per_step, sequences_per_batch * processes)
    if not missing:
        return accumulated
    batches, rest = divmod(sequences_per_step, sequences_per_batch)
    possible = [str(number) for number in range(1, batches + 1) if not rest and batches % number == 0]
    remedy = f"{sequences_per_batch} x {' or '.join(possible)} processes" if possible else "a smaller batch"
    raise ValueError(
        f"{asked_by}: {processes} processes with --per_device_train_batch_size {sequences_per_batch} make no step of "
        f"{sequences_per_step} sequences. What would work: {remedy}, or another --per_device_train_batch_size."
    )


def _precision(settings: dict, on_cpu: bool) -> dict[str, bool]:
    meant = [name for name in ("bf16", "fp16") if settings[name]]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if launched not in ("no", "", *(meant or ("bf16", "fp16"))):
        instead = f"the recipe says --{meant[0]} true" if meant else "a run is in float32, bf16 or fp16"
        raise ValueError(
            f"mixed_precision {launched!r} in accelerate's configuration (ACCELERATE_MIXED_PRECISION): {instead}. Set "
            "it to 'no' there."
        )
    if launched not in ("no", ""):
        meant = [launched]
    if "fp16" in meant and on_cpu and not settings["dry_run"]:
        raise ValueError("--fp16 true: on CPUs it would train in float32. Use --bf16 true, or leave it out.")
    return dict.fromkeys(meant, True)


def _direction(settings: dict) -> dict[str, bool]:
    """transformers takes all figures for better when they are higher, but those whose names end in "loss"."""
    metric = settings["metric_for_best_model"]
    if metric is None:
        return {}
    figures = METRICS[settings.get("method")]
    name = metric.removeprefix("eval_")
    if name not in figures:
        raise ValueError(f"--metric_for_best_model {metric}: this run has {', '.join(figures)}.")
    if settings["greater_is_better"] is not None or figures[name] or name.endswith("loss"):
        return {}
    return {"greater_is_better": False}


def _sizes(settings: dict) -> dict[str, Any]:
    """The sizes of the model that a pre-training starts from."""
    if settings.get("init_from") is None or "n_layer" not in settings:
        return {}
    try:
        config = AutoConfig.from_pretrained(settings["init_from"])
    except (OSError, ValueError):  # refused where it is loaded
        return {}
    if config.model_type not in (GPT2ScratchConfig.model_type, "gpt2"):
        return {}
    return {name: config.to_dict()[name] for name in SIZES}


def _tokenizer(settings: dict) -> dict[str, None]:
    """The sample's tokenizer is for a fresh model of the sample; other texts and weights have no use for it."""
    is_fitting = settings["dataset"] == ["sample"] and settings["init_from"] is None
    return {} if is_fitting or settings["tokenizer"] != "sample" else {"tokenizer": None}
