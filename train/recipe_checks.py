"""What a recipe must fulfil: mistakes are refused before any data is read, with the value, the limit and the remedy."""

from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from train.arguments import DataArguments, ModelArguments, RunArguments


def check_settings(model: ModelArguments, data: DataArguments, run: RunArguments) -> None:
    """Refuse values that cannot work, before any data is read."""
    for name, value, least in (
        ("block_size", data.block_size, 2),
        ("max_samples", data.max_samples, 1),
        ("max_eval_blocks", data.max_eval_blocks, 1),
        ("sample_tokens", run.sample_tokens, 1),
        ("exam_tokens", run.exam_tokens, 1),
        ("cpu_threads", run.cpu_threads, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} must be at least {least}.")
    if not 0 < data.validation_fraction < 1:
        raise ValueError(
            f"--validation_fraction {data.validation_fraction} must be between 0 and 1: training needs rows, and so "
            "does evaluation."
        )
    if run.sample_temperature < 0:
        raise ValueError(f"--sample_temperature {run.sample_temperature} must be at least 0.")
    # With --init_from the model brings its own context, checked when it is loaded.
    if model.init_from is None and data.block_size > model.n_positions:
        raise ValueError(
            f"--block_size {data.block_size} is longer than the context, --n_positions {model.n_positions}: the model "
            "has no position embeddings beyond it. Lower the one or raise the other."
        )


def check_training(training: TrainingArguments) -> None:
    """Refuse what the Trainer would accept and the user would regret."""
    if training.learning_rate <= 0:
        raise ValueError(f"--learning_rate {training.learning_rate} must be above 0.")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(training, name) < 1:
            raise ValueError(f"--{name} {getattr(training, name)} must be at least 1.")
    if training.dataloader_drop_last:
        raise ValueError(
            "--dataloader_drop_last would drop evaluation batches, too. Leave it out: training uses whole batches."
        )
    if training.load_best_model_at_end and training.save_total_limit == 1:
        raise ValueError(
            "--save_total_limit 1 with --load_best_model_at_end keeps only the best checkpoint, and the run could not "
            "be resumed from its last one: keep at least 2."
        )


def check_run_folder(folder: Path, resume_from: str | bool | None) -> None:
    """Refuse to write over a run, or to resume what is not there."""
    last_checkpoint = get_last_checkpoint(folder) if folder.is_dir() else None
    if resume_from is True and last_checkpoint is None:
        raise ValueError(f"--resume_from_checkpoint true: {folder} holds no checkpoint. Leave it out to start afresh.")
    if isinstance(resume_from, str) and not (Path(resume_from) / "trainer_state.json").is_file():
        raise ValueError(f"--resume_from_checkpoint {resume_from}: no checkpoint there (no trainer_state.json).")
    if resume_from is None and (last_checkpoint is not None or (folder / "model.safetensors").exists()):
        raise ValueError(
            f"{folder} already holds a run. Continue it with --resume_from_checkpoint true, choose another "
            "--output_dir, or move it away; nothing was changed."
        )
