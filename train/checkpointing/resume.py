"""Which checkpoint a run goes on from, and whether it may go on from it under the given settings."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from train.checkpointing import checkpoints, compatible_settings
from train.errors import RunRefusedError
from train.run_files import RECIPE_FILE, RESULTS_FILE, TRAINER_STATE_FILE, WEIGHTS_FILE
from train.settings.parser import SettingsParser
from train.settings.recipe import RunRecipe
from train.settings.recipe_file import read_recipe_file


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
    """What a run would do now in its folder, of which nothing is changed.

    Raises:
        ValueError: there is nothing to go on from, or the settings do not train what the checkpoint's did.
    """
    folder, training, now = recipe.run_folder, recipe.training, recipe.all_settings
    checkpoint = find_checkpoint(folder, training.resume_from_checkpoint)
    if checkpoint is None:
        return Start(folder)
    check_method(checkpoint, now.get("method"))
    words = ["--config", str(checkpoint / RECIPE_FILE)]
    before = find_parser(words).resolve(words)
    accumulated = adapt_to_checkpoint(checkpoint, before, now, training.train_batch_size, training.world_size)
    planned = compatible_settings.planned_steps(before, now, _read_state(checkpoint)["max_steps"])
    has_results = all((folder / name).is_file() for name in (RESULTS_FILE, TRAINER_STATE_FILE))
    finished = _read_state(folder)["global_step"] if has_results else 0
    return Start(folder, checkpoint, accumulated, finished if planned is not None and finished >= planned else 0)


def find_checkpoint(run_folder: Path, word: str | None) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint WORD` asks for, verified; `None` for a fresh start.

    The word is "true" for the newest complete checkpoint, "auto" for the same or else a fresh start, "false" or `None`
    for a fresh start, or a checkpoint's path.

    Raises:
        ValueError: there is none, it is damaged, or a fresh start would write over a run.
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
    if checkpoint is None and (kind == "true" or holds_results):
        remedy = "Choose another --output_dir, or move it away" if holds_results else "Leave it out to start afresh"
        raise ValueError(
            f"--resume_from_checkpoint {kind}: {run_folder} holds {'a model but ' if holds_results else ''}no complete "
            f"checkpoint. {remedy}; nothing was changed."
        )
    return checkpoint


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
    return any((run_folder / name).exists() for name in (WEIGHTS_FILE, RESULTS_FILE))


def _read_state(folder: Path) -> dict:
    return json.loads((folder / TRAINER_STATE_FILE).read_text(encoding="utf-8"))


def check_method(checkpoint: Path, method: str | None) -> None:
    """Refuse a checkpoint of another method of training, by a `ValueError`; the method of pre-training is `None`."""
    before = read_recipe_file(str(checkpoint / RECIPE_FILE)).get("method")
    if before != method:
        raise ValueError(
            f"{checkpoint} was made by {before or 'pre-training'}, and cannot go on with {method or 'pre-training'}: "
            "choose another --output_dir, and name the checkpoint in --init_from to start from its weights."
        )


def adapt_to_checkpoint(checkpoint: Path, before: dict, now: dict, sequences_per_batch: int, processes: int) -> int:
    """Check that all settings `now` train what those `before` did; returns the batches to accumulate a step.

    Raises:
        ValueError: settings differ that are not in `resume_with_changes`, or no accumulation makes the step of before.
    """
    meant = set(now["resume_with_changes"] or [])
    unknown = sorted(meant - now.keys())
    if unknown:
        raise ValueError(f"--resume_with_changes {' '.join(unknown)}: there are no such settings.")
    state = _read_state(checkpoint)
    changes = compatible_settings.changed_settings(before, now) | compatible_settings.changed_schedule(
        before, now, state["max_steps"], state["global_step"]
    )
    refused = {name: values for name, values in changes.items() if name not in meant}
    if refused:
        raise ValueError(compatible_settings.render_changes(refused, checkpoint))
    manifest = checkpoints.read_manifest(checkpoint)
    accumulated = compatible_settings.accumulation_for(manifest["sequences_per_step"], sequences_per_batch, processes)
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
