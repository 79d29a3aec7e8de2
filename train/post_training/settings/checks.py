"""Refuses settings that a method's TRL config takes and these runs would not follow, before any row is read."""

from train.post_training.settings.arguments import LoraArguments, PairArguments
from train.settings.arguments import OptimizerArguments
from train.settings.checks import Refused, refuse_others


OWN_MODEL: Refused = {
    "fsdp_size": (1, "only pre-training parts a model among processes. Leave it out"),
    "tp_size": (1, "only pre-training parts a model among processes. Leave it out"),
    "model_init_kwargs": (None, "set --init_from and --attn_implementation"),
    "trust_remote_code": (False, "the model's code is this project's. Leave it out"),
    "router_aux_loss_coef": (None, "there are no experts. Leave it out"),
}
OWN_MODELS: Refused = {
    **OWN_MODEL,
    "label_smoothing_factor": (0.0, "it is for losses per token. Leave it out"),
    "sync_ref_model": (False, "a checkpoint does not hold the reference, so it could not be resumed. Leave it out"),
}
# By method: the value to leave a setting at, and what to do.
REFUSED: dict[str, Refused] = {
    # Rows come tokenised, with labels, so that text that looks like a special token stays text.
    "sft": {
        **OWN_MODEL,
        "assistant_only_loss": (False, "the loss is always on what the assistant says. Leave it out"),
        "completion_only_loss": (None, "the loss is always on what the assistant says. Leave it out"),
        "chat_template_path": (None, "questions and answers have one form, that of pre-training. Leave it out"),
        "eos_token": (None, "it is <|endoftext|>, as in pre-training. Leave it out"),
        "pad_token": (None, "none is needed. Leave it out"),
        "dataset_kwargs": (None, "rows come prepared. Leave it out"),
        "dataset_text_field": ("text", "rows have columns of their own. Leave it out"),
        "eval_packing": (None, "validation rows are not packed, which the loss does not see. Leave it out"),
        "padding_free": (False, "--packing true leaves out padding, too"),
        "shuffle_dataset": (False, "rows are shuffled anew for each pass. Leave it out"),
        "truncation_mode": ("keep_start", "rows that are too long are not cut. Leave it out"),
    },
    "dpo": {
        **OWN_MODELS,
        "pad_token": (None, "none is needed. Leave it out"),
        "padding_free": (False, "it needs flash attention, and the reference would see other positions. Leave it out"),
        "truncation_mode": ("keep_start", "pairs that are too long are left out, not cut. Leave it out"),
    },
    "grpo": {
        **OWN_MODELS,
        "chat_template_kwargs": (None, "questions have one form, that of pre-training. Leave it out"),
        "cast_lm_head_to_fp32": (False, "weights are in float32. Leave it out"),
        "use_vllm": (False, "vLLM needs other versions of transformers and TRL. Leave it out"),
        "max_tool_calling_iterations": (None, "there are no tools. Leave it out"),
        "log_completions_hub_repo": (None, "publish the finished run with `python -m hub_card.publish`"),
    },
}


def check_post_training(
    method: str, settings: dict, pairs: PairArguments, lora: LoraArguments, optimizer: OptimizerArguments
) -> None:
    """Refuse what does not fit together in a post-training."""
    refuse_others(settings, REFUSED[method])
    if lora.use_peft and optimizer.differs_from_stock:
        raise ValueError(
            "--use_peft trains adapters, which --optim_name muon, --hidden_lr_scale and --embedding_lr_scale know "
            "nothing of: leave out the one or the others."
        )
    if not lora.use_peft and lora != LoraArguments():
        raise ValueError("Settings of LoRA are given, but --use_peft true is not: add it, or leave them out.")
    length_name = "max_completion_length" if method == "grpo" else "max_length"
    length = settings[length_name]
    if (length or 0) < 2:
        raise ValueError(f"--{length_name} {length} must be at least 2 tokens.")
    if method == "dpo" and pairs.pair_tokens >= length:
        raise ValueError(
            f"--pair_tokens {pairs.pair_tokens} leaves no room for a question in --max_length {length}: lower the one "
            "or raise the other."
        )
    if method == "grpo":
        temperature, weights = settings["temperature"], settings["reward_weights"]
        if temperature <= 0:
            raise ValueError(f"--temperature {temperature} must be above 0: answers must differ.")
        if weights is not None and len(weights) != 2:
            given = " ".join(map(str, weights))
            raise ValueError(f"--reward_weights {given}: there are 2, of a right answer and of the form.")
