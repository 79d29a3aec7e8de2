"""Compares the settings of a resumed run with those of its checkpoint: they must train the same."""

import math
from pathlib import Path

import torch
from transformers import get_scheduler

from train.optim.schedules import schedule_options


Changes = dict[str, tuple[object, object]]  # by setting: its value before and now

# Settings that may differ when a run goes on: they change where things lie, what is shown, and when it is saved.
FREE_PREFIXES = ("eval_", "exam", "hub_", "include_", "log_", "logging_", "sample_", "save_")
FREE = {
    *("async_save", "config", "dry_run", "output_dir", "resume_from_checkpoint", "resume_with_changes", "run_name"),
    *("cpu_threads", "fsdp_size", "tp_size", "use_cpu", "data_cache_dir", "dataset_num_proc"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    *("disable_tqdm", "html_report", "report_to", "push_to_hub", "load_best_model_at_end"),
    *("max_eval_sequences", "max_eval_samples", "forgetting_sequences", "per_device_eval_batch_size"),
    "tokenizer",  # whose ids are compared with the checkpoint's, wherever it lies
}
# These shape the learning rate, and are judged by it.
SCHEDULE = {
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "decay_steps"),
    *("max_steps", "num_train_epochs"),
}
NOT_A_FUNCTION_OF_THE_STEP = {"reduce_lr_on_plateau", "greedy"}
# These shape the batch of a step, and are judged by it.
BATCH = {"global_batch_size", "gradient_accumulation_steps", "per_device_train_batch_size"}


def changed_settings(before: dict, now: dict) -> Changes:
    """The settings that decide what is trained and differ, with both values; without those of schedule and batch."""
    judged = [name for name in sorted(before.keys() - FREE - SCHEDULE - BATCH) if not name.startswith(FREE_PREFIXES)]
    return {name: (before[name], now[name]) for name in judged if before[name] != now[name]}


def changed_schedule(before: dict, now: dict, total_steps_before: int, resumed_step: int) -> Changes:
    """The changed settings of the schedule, if the new one would have chosen another rate in any step up to now.

    A constant rate, and one that decays at the end only, can be prolonged by a higher `max_steps` while the decay has
    not begun; a cosine cannot, since every step of it depends on the last.
    """
    changes = {name: (before[name], now[name]) for name in sorted(SCHEDULE) if before[name] != now[name]}
    if not changes or {before["lr_scheduler_type"], now["lr_scheduler_type"]} & NOT_A_FUNCTION_OF_THE_STEP:
        return changes
    total_steps = planned_steps(before, now, total_steps_before)
    if total_steps is None:
        return changes
    rates_before = learning_rates(before, total_steps_before, resumed_step)
    rates_now = learning_rates(now, total_steps, resumed_step)
    return {} if rates_before == rates_now else changes


def planned_steps(before: dict, now: dict, total_steps_before: int) -> int | None:
    """The steps of a run under the settings `now`; `None` if only the data tell: in epochs from now on."""
    if now["max_steps"] > 0:
        return now["max_steps"]
    if before["max_steps"] > 0:
        return None
    return math.ceil(total_steps_before * now["num_train_epochs"] / before["num_train_epochs"])


def learning_rates(settings: dict, total_steps: int, steps: int) -> list[float]:
    """The learning rate of each of the first `steps` steps of a run of `total_steps`."""
    peak, warmup = settings["learning_rate"], settings["warmup_steps"]
    schedule = get_scheduler(
        settings["lr_scheduler_type"],
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak),
        # Below 1, the warmup is a share of the run, as in TrainingArguments.
        num_warmup_steps=int(warmup) if warmup >= 1 else math.ceil(total_steps * warmup),
        num_training_steps=total_steps,
        scheduler_specific_kwargs=schedule_options(
            settings["lr_scheduler_type"], settings["lr_scheduler_kwargs"], settings["decay_steps"], total_steps
        ),
    )
    return [peak * schedule.lr_lambdas[0](step) for step in range(steps)]


def render_changes(changes: Changes, checkpoint: Path) -> str:
    lines = [f"  {name}: {before!r} in {checkpoint.name}, {now!r} now" for name, (before, now) in changes.items()]
    return (
        f"{checkpoint} was made with another recipe, and going on would train something else:\n"
        + "\n".join(lines)
        + f"\nUse the run's own recipe (--config {checkpoint}/recipe.yaml), or, if it is meant, add "
        f"--resume_with_changes {' '.join(changes)}."
    )
