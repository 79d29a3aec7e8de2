"""What `DPOConfig` and `GRPOConfig` take and these runs would not follow: refused, before any row is read."""

from train.post_training.settings.arguments import PairArguments


OWN_MODEL = (
    ("model_init_kwargs", None, "set --init_from and --attn_implementation"),
    ("trust_remote_code", False, "the model's code is this project's. Leave it out"),
    ("router_aux_loss_coef", None, "there are no experts. Leave it out"),
    ("use_liger_kernel", False, "its kernels know other models only. Leave it out"),
)
DPO = (
    *OWN_MODEL,
    ("pad_token", None, "none is needed. Leave it out"),
    ("padding_free", False, "it needs flash attention, and the reference would see other positions. Leave it out"),
    ("truncation_mode", "keep_start", "pairs that are too long are left out, not cut. Leave it out"),
    ("sync_ref_model", False, "a checkpoint does not hold the reference, so it could not be resumed. Leave it out"),
)
GRPO = (
    *OWN_MODEL,
    ("chat_template_kwargs", None, "questions have one form, that of pre-training. Leave it out"),
    ("cast_lm_head_to_fp32", False, "weights are in float32. Leave it out"),
    ("use_vllm", False, "vLLM needs other versions of transformers and TRL. Leave it out"),
    ("max_tool_calling_iterations", None, "there are no tools. Leave it out"),
    ("sync_ref_model", False, "a checkpoint does not hold the reference, so it could not be resumed. Leave it out"),
    ("log_completions_hub_repo", None, "publish the finished run with `python -m hub_card.publish`"),
)
REWARDS = 2  # accuracy_reward, format_reward


def check_dpo(settings: dict, pairs: PairArguments) -> None:
    """Refuse settings of dpo that would not be followed, and pairs that cannot be made."""
    _refuse_others(settings, DPO)
    for name, value, least in (
        ("pair_samples", pairs.pair_samples, 2),
        ("pair_tokens", pairs.pair_tokens, 2),
        ("pairs_per_question", pairs.pairs_per_question, 1),
    ):
        if value < least:
            raise ValueError(f"--{name} {value} must be at least {least}.")
    if pairs.pair_temperature <= 0:
        raise ValueError(f"--pair_temperature {pairs.pair_temperature} must be above 0: answers must differ.")
    if settings["max_length"] is not None and pairs.pair_tokens >= settings["max_length"]:
        raise ValueError(
            f"--pair_tokens {pairs.pair_tokens} leaves no room for a question in --max_length "
            f"{settings['max_length']}: lower the one or raise the other."
        )


def check_grpo(settings: dict) -> None:
    """Refuse settings of grpo that would not be followed."""
    _refuse_others(settings, GRPO)
    if settings["max_completion_length"] < 2:
        raise ValueError(f"--max_completion_length {settings['max_completion_length']} must be at least 2.")
    if settings["temperature"] <= 0:
        raise ValueError(f"--temperature {settings['temperature']} must be above 0: answers must differ.")
    weights = settings["reward_weights"]
    if weights is not None and len(weights) != REWARDS:
        raise ValueError(
            f"--reward_weights {' '.join(map(str, weights))}: there are {REWARDS}, of a right answer and of the form."
        )


def _refuse_others(settings: dict, harmless: tuple[tuple[str, object, str], ...]) -> None:
    for name, value, remedy in harmless:
        if settings[name] != value:
            raise ValueError(f"--{name} {settings[name]}: {remedy}.")
