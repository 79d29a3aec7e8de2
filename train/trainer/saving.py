"""Saving by the Trainer: a checkpoint is complete or absent, and so is the final model."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer import TRAINING_ARGS_NAME

from train.callbacks.loss_guard import LossGuard
from train.checkpointing import checkpoints, disk_space
from train.run_files import RECIPE_FILE, TRAINER_STATE_FILE, UNFINISHED_FOLDER
from train.settings.recipe import RunRecipe


class CheckpointNotWrittenError(OSError):
    """A checkpoint could not be written; those before it are as they were."""


class SavingTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that

    - a checkpoint is complete or absent (see `train.checkpointing.checkpoints`), and carries the recipe;
    - no pickle of the arguments lies beside the model: `recipe.yaml` has them as text.

    Args:
        recipe: what is trained.
        data_name: the SHA-256 of the training tokens; a run goes on only with the same.
    """

    guard: LossGuard

    def __init__(self, *args, recipe: RunRecipe, data_name: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.recipe = recipe
        self.data_name = data_name
        self.run_folder = Path(self.args.output_dir)
        self._saving_in: Path | None = None

    def _get_output_dir(self, trial) -> str:
        return str(self._saving_in) if self._saving_in is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        self.guard.settle()
        place = self.run_folder / f"checkpoint-{self.state.global_step}"
        if place.exists():  # at an epoch's end, a step can be saved twice
            return
        self._saving_in = self.run_folder / UNFINISHED_FOLDER
        try:
            with self._all_or_nothing(place):
                super()._save_checkpoint(model, trial)
                self.save_more(self._saving_in / place.name)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self._complete_checkpoint(self._saving_in / place.name)
        finally:
            self._saving_in = None
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _all_or_nothing(self, what: Path) -> Iterator[None]:
        """Leave nothing half-written where writing fails, and say what was needed."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self.run_folder / UNFINISHED_FOLDER, ignore_errors=True)
            needs = disk_space.describe_failure(self.run_folder, disk_space.checkpoint_bytes(self.model))
            raise CheckpointNotWrittenError(
                f"{what} could not be written ({needs}); earlier checkpoints are untouched. {error}"
            ) from error

    def save_more(self, unfinished: Path) -> None:
        """Add files to a checkpoint; called by all processes."""

    def _complete_checkpoint(self, unfinished: Path) -> None:
        """Add what stock leaves out, seal the folder, rename it into place, and let old ones go."""
        best = None
        if self.state.best_global_step:
            best = self.run_folder / f"checkpoint-{self.state.best_global_step}"
            # Stock has looked for it beside the unfinished one.
            self.state.best_model_checkpoint = str(best) if best.exists() or best.name == unfinished.name else None
            self.state.save_to_json(str(unfinished / TRAINER_STATE_FILE))
        (unfinished / RECIPE_FILE).write_text(self.recipe.to_yaml(), encoding="utf-8")
        facts = {
            "step": self.state.global_step,
            "processes": self.args.world_size,
            "sequences_per_step": self.recipe.sequences_per_step,
            "data": self.data_name,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "recent_losses": list(self.guard.recent_losses),
        }
        checkpoints.write_manifest(unfinished, facts)
        checkpoints.put_in_place(unfinished, self.run_folder)
        checkpoints.rotate(self.run_folder, self.args.save_total_limit, best)

    def save_final_model(self) -> None:
        """Write the model into the run folder itself, each file whole or as it was before."""
        if self.is_fsdp_enabled:  # whose shards are for checkpoints; a model that others open is whole
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        with self._all_or_nothing(self.run_folder / "model.safetensors"):
            self.save_model(str(self.run_folder / UNFINISHED_FOLDER))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.move_files(self.run_folder / UNFINISHED_FOLDER, self.run_folder)

    def check_room(self) -> None:
        """Refuse a run whose checkpoints will not fit on the disk.

        Raises:
            RunRefusedError: what is needed and what is free.
        """
        total_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        planned = math.ceil(total_steps / max(self.args.save_steps, 1)) if self.args.save_strategy == "steps" else 1
        # One more than are kept: the oldest goes after the newest is in place.
        kept = min(planned, (self.args.save_total_limit or planned) + 1)
        model_bytes = disk_space.checkpoint_bytes(self.model, optimizer_values=0)
        needed = kept * disk_space.checkpoint_bytes(self.model) + model_bytes
        what = f"{kept} checkpoints and the model"
        disk_space.check_room(self.run_folder, needed, disk_space.folder_bytes(self.run_folder), what)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)
