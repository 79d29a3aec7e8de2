"""Names settings that were given and that a run with the other settings does not read."""

from collections.abc import Callable

from train.settings.resolving import reader_count


# These are judged as they were given, before others took their place.
RESOLVED = ("tokenizer", "gradient_accumulation_steps")
# Settings, what they need, and whether it is there.
READ_WITH: tuple[tuple[str, str, Callable[[dict], bool]], ...] = (
    (
        "gradient_accumulation_steps",
        "no --global_batch_size, from which it follows",
        lambda given: (
            given["global_batch_size"]
            in (None, given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] * reader_count(given))
        ),
    ),
    ("muon_momentum", "--optim_name muon", lambda given: given["optim_name"] == "muon"),
    ("optim_args", "an --optim that takes some", lambda given: not given["optim"].startswith(("adamw_torch", "adaf"))),
    ("warmup_steps", "another schedule than constant", lambda given: given["lr_scheduler_type"] != "constant"),
    (
        "lr_scheduler_kwargs",
        "a schedule that takes some",
        lambda given: given["lr_scheduler_type"] not in ("constant", "constant_with_warmup"),
    ),
    (
        "decay_steps",
        "--lr_scheduler_type warmup_stable_decay",
        lambda given: given["lr_scheduler_type"] == "warmup_stable_decay",
    ),
    ("sample_tokens sample_temperature", "--sample_prompts", lambda given: bool(given["sample_prompts"])),
    ("exam_tokens", "--exam", lambda given: bool(given["exam"])),
    ("async_save", "checkpoints amid the training (--save_strategy)", lambda given: given["save_strategy"] != "no"),
    ("skip_loss_spikes", "--loss_spike_score above 0", lambda given: given["loss_spike_score"] > 0),
    (
        "validation_fraction split_seed",
        "validation rows that are not named apart (--validation_dataset, --validation_split)",
        lambda given: {given.get("validation_dataset"), given.get("validation_split")} == {None},
    ),
    ("dataset_weights", "several datasets", lambda given: len(given["dataset"]) > 1),
    ("shuffle_buffer", "--streaming true", lambda given: given.get("streaming", True)),
    (
        "pair_samples pair_temperature pair_tokens pairs_per_question",
        "--method dpo",
        lambda given: given.get("method") == "dpo",
    ),
    (
        "tokenizer",
        "a fresh model of --dataset sample",
        lambda given: given["tokenizer"] != "sample" or (given["dataset"] == ["sample"] and not given["init_from"]),
    ),
    (
        "activation_checkpointing_kwargs",
        "--activation_checkpointing true",
        lambda given: bool(given["activation_checkpointing"]),
    ),
)


def find_unread(settings: dict, defaults: dict) -> list[str]:
    """A line for each setting that differs from its default and has no effect."""
    return [
        f"--{name} {settings[name]} has no effect: it needs {needed}."
        for names, needed, is_read in READ_WITH
        for name in names.split()
        if name in settings and settings[name] != defaults[name] and not is_read(settings)
    ]
