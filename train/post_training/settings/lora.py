"""Low-rank adapters (LoRA), by TRL and PEFT."""

import warnings

import torch
from transformers import PreTrainedModel

from train.post_training.settings.arguments import LoraArguments


def build_adapter_config(lora: LoraArguments):
    """The adapters that a recipe asks for, as a `peft.LoraConfig`; `None` where all weights are trained."""
    from trl.trainer.model_config import ModelConfig
    from trl.trainer.utils import get_peft_config

    names = lora.lora_target_modules or ["all-linear"]
    adapters = get_peft_config(ModelConfig(**{**vars(lora), "lora_target_modules": names}))
    if adapters is not None and names != ["all-linear"]:
        # ModelConfig turns a list of one name into a string, which PEFT takes for a regular expression of whole paths.
        adapters.target_modules = set(names)
    return adapters


def refuse_tied(model: PreTrainedModel, lora: LoraArguments) -> None:
    """Refuse, by a `ValueError`, adapters on a weight that two layers share: merged, it would change both of them,
    while in training one layer went on without. PEFT itself refuses names that no layer has."""
    adapters = build_adapter_config(lora)
    if adapters is None:
        return
    from peft import get_peft_model

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's of tied weights, which are refused here
        adapted = get_peft_model(type(model)(model.config), adapters).base_model.targeted_module_names
    tied = {name.removesuffix(".weight") for pair in model.all_tied_weights_keys.items() for name in pair}
    if shared := sorted(tied.intersection(adapted)):
        raise ValueError(
            f"--lora_target_modules {' '.join(lora.lora_target_modules or [])}: {', '.join(shared)} shares its weight "
            f"({' and '.join(sorted(tied))} are one matrix), and the merged model would not be the trained one. Leave "
            "it out, or train all weights (without --use_peft)."
        )
