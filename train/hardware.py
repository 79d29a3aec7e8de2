"""The hardware that a run trains on, and what makes a model faster on it."""

import ctypes
import logging
import os
import sys

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel, TrainingArguments
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from train.cpu_kernels import use_cpu_kernels


logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD = -3  # mallopt's name of it, in glibc's malloc.h
RETURNED_BYTES = 4 * 2**20
COMPILED_SDPA = "compiled_sdpa"  # a value of attn_implementation; no config file stores it


def set_up_hardware(training: TrainingArguments, cpu_threads: int | None, tokens_per_step: int) -> None:
    """Use all cores when training on CPUs (by default a process takes its share), and say what the run trains on."""
    device = training.device
    where = f"{training.world_size} process(es) on {device.type}"
    if device.type == "cpu":
        local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(cpu_threads or max(1, available_cores() // local_processes))
        where += f", {torch.get_num_threads()} thread(s) each"
    is_slow = device.type == "cpu" and training.bf16 and has_bf16_units() is False
    level = logging.WARNING if is_slow else logging.INFO
    logger.log(level, "%s; %s tokens per step, in %s", where, f"{tokens_per_step:,}", describe_precision(training))


def describe_precision(training: TrainingArguments) -> str:
    """The precision of a run, and whether another one would be faster on this processor."""
    if training.fp16:
        on_gpus = ": on a GPU; this machine has none, and would refuse the run" * (training.device.type == "cpu")
        return f"fp16, with loss scaling{on_gpus}"
    if training.device.type == "cuda" and not training.bf16:
        half = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return f"float32 (--{half} true would be several times as fast on a GPU)"
    name, units = "bf16" if training.bf16 else "float32", has_bf16_units()
    if training.device.type != "cpu" or units is None or units == training.bf16:
        return name
    if units:
        return f"{name} (this processor has units for bf16: --bf16 true would be faster, unless the model is tiny)"
    return f"{name} (this processor has no units for it, AMX or AVX512-BF16: without --bf16 it would be faster)"


def has_bf16_units() -> bool | None:
    """Whether this processor multiplies matrices faster in bf16 than in float32; `None` where that is not known."""
    found = torch.cpu.get_capabilities()
    return any(found.get(unit) for unit in ("amx_bf16", "avx512_bf16")) if found["architecture"] == "x86_64" else None


def set_up_model(model: PreTrainedModel, device: torch.device, compiled: bool) -> None:
    """Switch on what makes training faster on a device; the model computes the same without it."""
    if device.type == "cpu":
        return_freed_memory(model)
    if compiled and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(COMPILED_SDPA, sdpa_attention_forward)
        AttentionMaskInterface.register(COMPILED_SDPA, mask_unless_causal)
        model.set_attn_implementation(COMPILED_SDPA)
    elif device.type == "cpu" and not compiled:
        use_cpu_kernels(model)


def mask_unless_causal(**inputs) -> Tensor | None:
    """transformers' mask for SDPA, and none where it would be the causal one: SDPA is causal by itself.

    With torch before 2.14, transformers makes that mask for a compiled model all the same, which then misses the flash
    kernel, as that takes none.
    """
    is_causal = inputs["q_length"] == inputs["kv_length"] and inputs["mask_function"] is causal_mask_function
    return None if is_causal and inputs["attention_mask"] is None else sdpa_mask(**inputs)


def return_freed_memory(model: PreTrainedModel) -> None:
    """Have glibc give tensors over 4 MB back as soon as they are freed, when training a small model on CPUs.

    By itself it learns to keep all up to 32 MB for the next ones, in a heap with holes. That costs a small model, whose
    head is most of it, memory and gains it no time; a larger model would be slower by up to 30%, so it is left alone
    (see train/experiments/cpu_speed.md).
    """
    mostly_head = 2 * model.get_output_embeddings().weight.numel() > model.num_parameters()
    if sys.platform == "linux" and mostly_head:
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries of Linux have none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, RETURNED_BYTES)


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
