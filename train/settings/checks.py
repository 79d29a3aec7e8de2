"""What a recipe must fulfil: mistakes are refused before any data is read, with the value, the limit and the remedy."""

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations, get_reporting_integration_callbacks
from transformers.training_args import OptimizerNames

from train.data.rows.row_filter import parse_weights
from train.data.sequences.packing import PACKINGS
from train.settings.arguments import DataArguments, ModelArguments, OptimizerArguments, RunArguments


def check_settings(model: ModelArguments, data: DataArguments, run: RunArguments) -> None:
    """Refuse values that cannot work, before any data is read."""
    for name, value, least in (
        ("sequence_length", data.sequence_length, 2),
        ("max_samples", data.max_samples, 1),
        ("max_tokens", data.max_tokens, 1),
        ("min_row_tokens", data.min_row_tokens, 1),
        ("max_row_tokens", data.max_row_tokens, data.min_row_tokens or 1),
        ("shuffle_buffer", data.shuffle_buffer, 1),
        ("dataset_num_proc", data.dataset_num_proc, 1),
        ("max_eval_sequences", data.max_eval_sequences, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} must be at least {least}.")
    if not 0 < data.validation_fraction < 1:
        raise ValueError(
            f"--validation_fraction {data.validation_fraction} must be between 0 and 1: training needs rows, and so "
            "does evaluation."
        )
    check_data_settings(data)
    check_run(run)
    # With --init_from the model brings its own context, checked when it is loaded.
    if model.init_from is None and data.sequence_length > model.n_positions:
        raise ValueError(
            f"--sequence_length {data.sequence_length} is longer than the context, --n_positions {model.n_positions}: "
            "the model has no position embeddings beyond it. Lower the one or raise the other."
        )


def check_run(run: RunArguments) -> None:
    for name, value, least in (
        ("sample_tokens", run.sample_tokens, 1),
        ("exam_tokens", run.exam_tokens, 1),
        ("cpu_threads", run.cpu_threads, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} must be at least {least}.")
    if run.loss_spike_score < 0:
        raise ValueError(f"--loss_spike_score {run.loss_spike_score} must be at least 0 (0: no spikes are looked for).")
    if run.sample_temperature < 0:
        raise ValueError(f"--sample_temperature {run.sample_temperature} must be at least 0.")


def check_data_settings(data: DataArguments) -> None:
    for name, word, possible in (
        ("packing", data.packing, PACKINGS),
        ("broken_shards", data.broken_shards, ("stop", "skip")),
    ):
        if word not in possible:
            raise ValueError(f"--{name} {word}: there are {' and '.join(possible)}.")
    parse_weights("exercise_weights", data.exercise_weights)
    parse_weights("language_weights", data.language_weights)
    if data.streaming and data.max_eval_sequences is None:
        raise ValueError(
            "--streaming needs --max_eval_sequences: how many validation rows are gathered before training."
        )
    for name, value in (("max_samples", data.max_samples), ("max_tokens", data.max_tokens)):
        if data.streaming and value is not None:
            raise ValueError(f"--{name} {value}: a stream ends where the run does. Set --max_steps instead.")


def check_training(training: TrainingArguments, data: DataArguments) -> None:
    """Refuse what the Trainer would accept and the user would regret."""
    if data.streaming and training.max_steps <= 0:
        raise ValueError("--streaming needs --max_steps: how many rows a stream has is not known before its end.")
    if data.packing == "best_fit" and getattr(training, "use_cache", False):
        raise ValueError("--use_cache true with --packing best_fit: documents would see each other. Leave it out.")
    check_trainer(training)


def check_trainer(training: TrainingArguments) -> None:
    """The same for what does not depend on the data."""
    if training.learning_rate <= 0:
        raise ValueError(f"--learning_rate {training.learning_rate} must be above 0.")
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        if getattr(training, name) < 1:
            raise ValueError(f"--{name} {getattr(training, name)} must be at least 1.")
    if training.dataloader_drop_last:
        raise ValueError(
            "--dataloader_drop_last would drop evaluation batches, too. Leave it out: training uses whole batches."
        )
    for name, remedy in (
        ("auto_find_batch_size", "a resumed run would see other batches. Set --per_device_train_batch_size"),
        ("dataloader_persistent_workers", "a resumed run would draw other random numbers. Leave it out"),
        (
            "enable_jit_checkpoint",
            "it can save inside a step. SIGTERM saves a checkpoint without it, between two steps",
        ),
        ("ignore_data_skip", "a resumed run would see the first rows again. Leave it out"),
        ("save_only_model", "such checkpoints cannot be resumed from. Leave it out"),
    ):
        if getattr(training, name):
            raise ValueError(f"--{name}: {remedy}.")
    if not training.prediction_loss_only:
        raise ValueError("--prediction_loss_only false would keep all logits in evaluation, for nothing. Leave it out.")
    if training.save_on_each_node:
        raise ValueError("--save_on_each_node: checkpoints lie in one folder that all machines share. Leave it out.")
    if training.push_to_hub:
        raise ValueError(
            "--push_to_hub: what the Trainer pushes lacks the model's code, and nobody could open it. Leave it out, "
            f"and publish the finished run: python -m hub_card.publish {training.output_dir} --repo_id you/name."
        )
    check_trackers(training.report_to)
    if training.load_best_model_at_end and training.save_total_limit == 1:
        raise ValueError(
            "--save_total_limit 1 with --load_best_model_at_end keeps only the best checkpoint, and the run could not "
            "be resumed from its last one: keep at least 2."
        )


def check_trackers(trackers: list[str]) -> None:
    """Refuse a tracker that transformers does not know, or whose library is not here."""
    if not set(trackers) <= {"tensorboard"}:
        get_reporting_integration_callbacks(trackers)  # raises with the names that there are
        missing = sorted(set(trackers) - set(get_available_reporting_integrations()))
        if missing:
            raise ValueError(f"--report_to {missing[0]}: its library is not installed here: pip install {missing[0]}.")


def check_optimizer(optimizer: OptimizerArguments, training: TrainingArguments) -> None:
    """Refuse optimizers that do not exist, and settings that one would not read."""
    if optimizer.optim_name not in ("adamw", "muon"):
        raise ValueError(f"--optim_name {optimizer.optim_name}: there are adamw and muon.")
    for name in ("hidden_lr_scale", "embedding_lr_scale", "decay_steps"):
        if getattr(optimizer, name) <= 0:
            raise ValueError(f"--{name} {getattr(optimizer, name)} must be above 0.")
    if not 0 <= optimizer.muon_momentum < 1:
        raise ValueError(f"--muon_momentum {optimizer.muon_momentum} must be in [0, 1).")
    adamw = (OptimizerNames.ADAMW_TORCH_FUSED, OptimizerNames.ADAMW_TORCH)
    if optimizer.differs_from_stock and training.optim not in adamw:
        raise ValueError(
            f"--optim {training.optim.value} cannot be had with --optim_name muon, --hidden_lr_scale or "
            "--embedding_lr_scale, which are for AdamW: leave out the one or the others."
        )
