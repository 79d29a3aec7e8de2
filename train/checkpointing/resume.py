"""Which checkpoint a run goes on from, and whether it may go on from it under the given settings."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.checkpointing import checkpoints, compatible_settings
from train.errors import RunRefusedError
from train.run_files import RECIPE_FILE, RESULTS_FILE, TRAINER_STATE_FILE, WEIGHTS_PATTERN, read_dict
from train.settings.parser import SettingsParser
from train.settings.recipe import RunRecipe
from train.settings.recipe_file import read_recipe_file
from train.settings.resolving import accumulation_for


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a run begins; as text, a line for its user."""

    run_folder: Path
    checkpoint: Path | None = None  # to go on from, verified; `None` for a fresh start
    accumulated: int | None = None  # batches a step, which keep the checkpoint's steps
    finished_steps: int = 0  # of the finished run in the folder, if it has all the steps that are asked for

    def __str__(self) -> str:
        if self.finished_steps:
            return (
                f"{self.run_folder} holds a finished run of {self.finished_steps} steps: nothing to do. For more raise "
                "--max_steps or --num_train_epochs; for another run, choose another --output_dir."
            )
        return f"Starting in {self.run_folder}." if self.checkpoint is None else f"Resuming from {self.checkpoint}."


def find_start(recipe: RunRecipe, find_parser: Callable[[list[str]], SettingsParser]) -> Start:
    """What a run would do now in its folder, of which nothing is changed; a `ValueError` where there is nothing to go
    on from, or the settings do not train what the checkpoint's did."""
    folder, training, now = recipe.run_folder, recipe.training, recipe.all_settings
    finished = finished_steps(folder)
    checkpoint = find_checkpoint(folder, training.resume_from_checkpoint)
    made = checkpoint or (folder if finished else None)  # where the settings lie that the run was made with
    if made is None:
        return Start(folder)
    check_method(made, now.get("method"))
    words = ["--config", str(made / RECIPE_FILE)]
    before = find_parser(words).resolve(words)
    check_settings(made, before, now)
    planned = compatible_settings.planned_steps(before, now, _read_state(made)["max_steps"])
    if finished and planned is not None and finished >= planned:
        return Start(folder, checkpoint, finished_steps=finished)
    if checkpoint is None:
        raise ValueError(_no_checkpoint(folder, training.resume_from_checkpoint))
    return Start(folder, checkpoint, adapt_batch(checkpoint, before, now, recipe.readers))


def finished_steps(run_folder: Path) -> int:
    """The steps of the finished run in a folder; 0 where there is none, or its model is gone."""
    is_whole = all(any(run_folder.glob(name)) for name in (RESULTS_FILE, TRAINER_STATE_FILE, WEIGHTS_PATTERN))
    return _read_state(run_folder)["global_step"] if is_whole else 0


def find_checkpoint(run_folder: Path, word: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint WORD` asks for, verified.

    Args:
        word: "true" for the newest complete checkpoint; "auto" for the same where there is one, else a fresh start;
            "false" or `None` for a fresh start; or the path of a checkpoint.

    Returns:
        The checkpoint's folder; `None` for a fresh start, or for a finished run, which may have no checkpoint left.

    Raises:
        ValueError: there is no such checkpoint, it is damaged, or a fresh start would write over a run.
    """
    kind = str(word).lower() if word is not None else "false"
    if kind not in ("true", "auto", "false"):
        return _named_checkpoint(Path(str(word)), run_folder)
    holds_results = _holds_results(run_folder)
    if kind == "false":
        if holds_results or checkpoints.checkpoints_in(run_folder):
            raise ValueError(
                f"{run_folder} already holds a run. Continue it with --resume_from_checkpoint true, choose another "
                "--output_dir, or move it away; nothing was changed."
            )
        return None
    checkpoint, passed_over = checkpoints.newest_complete(run_folder)
    for reason in passed_over:
        logger.warning("Passed over: %s", reason)
    if checkpoint is None and (kind == "true" or holds_results) and not finished_steps(run_folder):
        raise ValueError(_no_checkpoint(run_folder, kind))
    return checkpoint


def _no_checkpoint(run_folder: Path, word: str | None) -> str:
    has, remedy = "", "Leave it out to start afresh"
    if _holds_results(run_folder):
        has, remedy = "a model but ", "Choose another --output_dir, or move it away"
    return (
        f"--resume_from_checkpoint {word}: {run_folder} holds {has}no complete checkpoint. {remedy}; "
        "nothing was changed."
    )


def _named_checkpoint(checkpoint: Path, run_folder: Path) -> Path:
    if not (checkpoint / TRAINER_STATE_FILE).is_file():
        raise ValueError(f"--resume_from_checkpoint {checkpoint}: no checkpoint there (no {TRAINER_STATE_FILE}).")
    try:
        checkpoints.verify(checkpoint)
    except checkpoints.DamagedCheckpointError as error:
        raise ValueError(f"--resume_from_checkpoint {checkpoint}: {error}") from error
    step, is_own = checkpoints.step_of(checkpoint), checkpoint.resolve().parent == run_folder.resolve()
    others = [
        other.name
        for other in checkpoints.checkpoints_in(run_folder)
        if not is_own or checkpoints.step_of(other) > step
    ]
    others += [] if is_own or not _holds_results(run_folder) else ["a finished run"]
    if others:
        raise ValueError(
            f"--resume_from_checkpoint {checkpoint}: {run_folder} also holds {', '.join(others)}, of another course of "
            "training. Move that away, or choose another --output_dir."
        )
    return checkpoint


def _holds_results(run_folder: Path) -> bool:
    return any(any(run_folder.glob(name)) for name in (WEIGHTS_PATTERN, RESULTS_FILE))


def _read_state(folder: Path) -> dict:
    return read_dict(folder / TRAINER_STATE_FILE)


def check_method(checkpoint: Path, method: str | None) -> None:
    """Refuse a checkpoint of another method of training, by a `ValueError`; the method of pre-training is `None`."""
    before = read_recipe_file(str(checkpoint / RECIPE_FILE)).get("method")
    if before != method:
        raise ValueError(
            f"{checkpoint} was made by {before or 'pre-training'}, and cannot go on with {method or 'pre-training'}: "
            "choose another --output_dir, and name the checkpoint in --init_from to start from its weights."
        )


def check_settings(made: Path, before: dict, now: dict) -> None:
    """Check that all settings `now` train what those `before` did, which made a checkpoint or finished run; a
    `ValueError` where some differ that are not in `resume_with_changes`."""
    meant = set(now["resume_with_changes"] or [])
    unknown = sorted(meant - now.keys())
    if unknown:
        raise ValueError(f"--resume_with_changes {' '.join(unknown)}: there are no such settings.")
    state = _read_state(made)
    changes = compatible_settings.changed_settings(before, now) | compatible_settings.changed_schedule(
        before, now, state["max_steps"], state["global_step"]
    )
    refused = {name: values for name, values in changes.items() if name not in meant}
    if refused:
        raise ValueError(compatible_settings.render_changes(refused, made))


def adapt_batch(checkpoint: Path, before: dict, now: dict, processes: int) -> int:
    """The batches to accumulate a step, so that it is that of before; a `ValueError` where no number does it, or
    another global batch is asked for."""
    manifest = checkpoints.read_manifest(checkpoint)
    sequences, asked = manifest["sequences_per_step"], now["global_batch_size"]
    if asked not in (None, sequences):
        raise ValueError(
            f"--global_batch_size {asked}: the steps of {checkpoint} see {sequences} sequences. Leave it out, or start "
            "another run in another --output_dir."
        )
    batch = now["per_device_train_batch_size"]
    accumulated = accumulation_for(sequences, batch, processes, f"--resume_from_checkpoint {checkpoint}")
    made_by = (manifest["processes"], before["gradient_accumulation_steps"])
    if (processes, accumulated) != made_by:
        logger.warning(
            "The checkpoint was made by %d processes x %d accumulated batches; going on with %d x %d, the same "
            "sequences a step in the same order. Dropout draws differ from here on.",
            *(*made_by, processes, accumulated),
        )
    return accumulated


def check_data(checkpoint: Path, data_name: str, meant: list[str] | None) -> None:
    """Refuse other data (rows, filters, tokenizer, sequences) than the checkpoint's, unless "dataset" is `meant`."""
    before = checkpoints.read_manifest(checkpoint)["data"]
    if before != data_name and "dataset" not in (meant or []):
        raise RunRefusedError(
            f"{checkpoint} was trained on other tokens (SHA-256 {before[:12]}, now {data_name[:12]}): the rows behind "
            "--dataset have changed. Bring them back, or, if it is meant, add --resume_with_changes dataset."
        )
