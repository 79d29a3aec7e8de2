"""Low-rank adapters (LoRA), by TRL and PEFT."""

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
