"""Low-rank adapters (LoRA), by PEFT."""

from train.post_training.settings.arguments import LoraArguments


def build_adapter_config(lora: LoraArguments):
    """The adapters that a recipe asks for, as a `peft.LoraConfig`; `None` where all weights are trained."""
    if not lora.use_peft:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.lora_r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=lora.lora_target_modules or "all-linear",
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
    )
