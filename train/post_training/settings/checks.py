"""What a post-training recipe must fulfil: mistakes are refused before any row is read."""

from train.post_training.settings.arguments import LoraArguments, PostTrainingRunArguments, RowsArguments
from train.settings.arguments import OptimizerArguments


def check_rows(rows: RowsArguments, run: PostTrainingRunArguments) -> None:
    """Refuse values that cannot work, before any row is read."""
    for name, value, least in (
        ("max_samples", rows.max_samples, 1),
        ("max_eval_samples", rows.max_eval_samples, 1),
        ("forgetting_sequences", run.forgetting_sequences, 0),
    ):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} must be at least {least}.")
    if not 0 < rows.validation_fraction < 1:
        raise ValueError(
            f"--validation_fraction {rows.validation_fraction} must be between 0 and 1: training needs rows, and so "
            "does evaluation."
        )


def check_lora(lora: LoraArguments, optimizer: OptimizerArguments) -> None:
    """Refuse adapters that cannot be made, and settings that they would not read."""
    if lora.lora_r < 1:
        raise ValueError(f"--lora_r {lora.lora_r} must be at least 1.")
    if not 0 <= lora.lora_dropout < 1:
        raise ValueError(f"--lora_dropout {lora.lora_dropout} must be in [0, 1).")
    if lora.use_peft and optimizer.differs_from_stock:
        raise ValueError(
            "--use_peft trains adapters, which --optim_name muon, --hidden_lr_scale and --embedding_lr_scale know "
            "nothing of: leave out the one or the others."
        )
    if not lora.use_peft and lora != LoraArguments():
        raise ValueError("Settings of LoRA are given, but --use_peft true is not: add it, or leave them out.")


def check_method_settings(method: str, settings: dict) -> None:
    """Refuse what the method's TRL config takes and this script would not follow."""
    if method == "sft":
        _check_sft(settings)
    if settings["push_to_hub"]:
        raise ValueError("--push_to_hub: publish the finished run with `python -m hub_card.publish`, which checks it.")
    if method != "grpo" and (settings["max_length"] or 0) < 2:
        raise ValueError(f"--max_length {settings['max_length']} must be at least 2 tokens.")


def _check_sft(settings: dict) -> None:
    # Rows come tokenised, with labels, so that text that looks like a special token stays text.
    for name, harmless, remedy in (
        ("assistant_only_loss", False, "the loss is always on what the assistant says. Leave it out"),
        ("completion_only_loss", None, "the loss is always on what the assistant says. Leave it out"),
        ("chat_template_path", None, "questions and answers have one form, that of pre-training. Leave it out"),
        ("eos_token", None, "it is <|endoftext|>, as in pre-training. Leave it out"),
        ("pad_token", None, "none is needed. Leave it out"),
        ("dataset_kwargs", None, "rows come prepared. Leave it out"),
        ("dataset_text_field", "text", "rows have columns of their own. Leave it out"),
        ("model_init_kwargs", None, "set --init_from and --attn_implementation"),
        ("trust_remote_code", False, "the model's code is this project's. Leave it out"),
        ("router_aux_loss_coef", None, "there are no experts. Leave it out"),
        ("eval_packing", None, "validation rows are not packed, which the loss does not see. Leave it out"),
        ("padding_free", False, "--packing true leaves out padding, too"),
        ("use_liger_kernel", False, "its kernels know other models only. Leave it out"),
        ("shuffle_dataset", False, "rows are shuffled anew for each pass. Leave it out"),
        ("truncation_mode", "keep_start", "rows that are too long are not cut. Leave it out"),
    ):
        if settings[name] != harmless:
            raise ValueError(f"--{name} {settings[name]}: {remedy}.")
