"""Saving by the Trainer: a checkpoint is complete or absent, and so is the final model."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, TRAINING_ARGS_NAME

from modeling_gpt2scratch.loading import count_ids, drop_padding, load_whole_model
from train.checkpointing import checkpoints, disk_space
from train.errors import RunFailedError
from train.run_files import RECIPE_FILE, RESULTS_FILE, TRAINER_STATE_FILE, UNFINISHED_FOLDER, WEIGHTS_FILE
from train.trainer.background_writing import BackgroundWriter, States, taking_states, write_states


class SavingTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that

    - a checkpoint is complete or absent (see `train.checkpointing.checkpoints`), and carries the recipe;
    - with `async_save`, its large files are written while training goes on (see `train.trainer.background_writing`);
    - what is saved generates with a cache;
    - no pickle of the arguments lies beside the model: `recipe.yaml` has them as text.

    Two private methods are overridden, `_save_checkpoint` and `_get_output_dir`: the stock Trainer writes a checkpoint
    under its final name and calls callbacks (`on_save`) only afterwards, when a kill has already left a torn one.
    """

    def __init__(self, *args, recipe_text: str, data_name: str, async_save: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.recipe_text = recipe_text  # the resolved recipe, as YAML
        self.data_name = data_name  # the SHA-256 of the training tokens; a run goes on only with the same
        self.run_folder = Path(self.args.output_dir)
        self.async_save = async_save
        self._background = BackgroundWriter()
        self.add_callback(self._background)

    def train(self, *args, **kwargs):
        try:
            return super().train(*args, **kwargs)
        finally:
            self._background.settle()  # also where an error ends the run: another one may then start in its folder

    def _get_output_dir(self, trial) -> str:
        """The folder for unfinished checkpoints, where the stock Trainer finds none that it could delete."""
        return str(self.run_folder / UNFINISHED_FOLDER)

    def _save_checkpoint(self, model, trial) -> None:
        """Write the stock checkpoint into a folder aside, complete it, and rename it into place."""
        place = self.run_folder / f"checkpoint-{self.state.global_step}"
        self._background.join(place)
        if place.exists():  # at an epoch's end, a step can be saved twice
            return
        # Before a stop, there is no training to go on meanwhile.
        in_background = self.async_save and not self.control.should_training_stop
        unfinished = self.run_folder / UNFINISHED_FOLDER / place.name
        owners = {}
        if in_background:
            owners[unfinished / OPTIMIZER_NAME] = self.optimizer.optimizer
            # Else adapters, which are small, or weights that are gathered as they are written.
            if isinstance(self.model, PreTrainedModel) and not self.is_distributed_loading_by_transformers:
                owners[unfinished / WEIGHTS_FILE] = self.model
        with self.removing_unfinished(place):
            with taking_states(owners) as states:
                super()._save_checkpoint(model, trial)
            self.save_more(unfinished)
            best = self._note_best(unfinished)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                complete = partial(self._complete_checkpoint, unfinished, best, self.manifest_facts())
                if in_background:
                    self._background.start(states, self.removing_unfinished(place)(complete))
                else:
                    complete({})
        self.accelerator.wait_for_everyone()

    @contextmanager
    def removing_unfinished(self, target: Path) -> Iterator[None]:
        """Where writing `target` fails, remove what is half-written, and say how much space it needs."""
        try:
            yield
        except Exception as error:
            # A bare Exception is the tokenizers library's way to say that the disk is full.
            if not isinstance(error, OSError | RuntimeError | SafetensorError) and type(error) is not Exception:
                raise
            shutil.rmtree(self.run_folder / UNFINISHED_FOLDER, ignore_errors=True)
            needs = disk_space.describe_failure(self.run_folder, disk_space.checkpoint_bytes(self.model))
            raise RunFailedError(
                f"{target} could not be written ({needs}); earlier checkpoints are untouched. {error}"
            ) from error

    def save_more(self, unfinished: Path) -> None:
        """Add files to a checkpoint; called by all processes."""

    def manifest_facts(self) -> dict[str, Any]:
        """The facts of a checkpoint's manifest, beside its files."""
        return {
            "step": self.state.global_step,
            "processes": self.args.world_size // self.get_tp_size(),  # that read batches of their own
            "sequences_per_step": self.get_total_train_batch_size(self.args),
            "data": self.data_name,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }

    def _note_best(self, unfinished: Path) -> Path | None:
        """Where the best checkpoint so far lies, for the end of training."""
        if not self.state.best_global_step:
            return None
        best = self.run_folder / f"checkpoint-{self.state.best_global_step}"
        self.state.best_model_checkpoint = None  # in the file: the run may be moved, and its step says which
        if self.args.should_save:
            self.state.save_to_json(str(unfinished / TRAINER_STATE_FILE))
        # The stock method has looked for it beside the unfinished one.
        self.state.best_model_checkpoint = str(best) if best.exists() or best.name == unfinished.name else None
        return best

    def _complete_checkpoint(self, unfinished: Path, best: Path | None, facts: dict, states: States) -> None:
        """Add the states that were held back, the recipe and the manifest, rename the folder into place, and delete old
        checkpoints."""
        write_states(states)
        (unfinished / RECIPE_FILE).write_text(self.recipe_text, encoding="utf-8")
        checkpoints.write_manifest(unfinished, facts)
        checkpoints.put_in_place(unfinished, self.run_folder)
        checkpoints.rotate(self.run_folder, self.args.save_total_limit, best)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        config = self.accelerator.unwrap_model(self.model).config
        used_cache, config.use_cache = config.use_cache, True  # the stock Trainer turns the cache off for training
        super().save_model(output_dir, _internal_call)
        config.use_cache = used_cache
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def save_final_model(self) -> None:
        """Write model and recipe into the run folder itself, each file whole or as it was before."""
        with self.removing_unfinished(self.run_folder / WEIGHTS_FILE):
            self.save_model(str(self.run_folder / UNFINISHED_FOLDER))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                (self.run_folder / UNFINISHED_FOLDER / RECIPE_FILE).write_text(self.recipe_text, encoding="utf-8")
                self._drop_padding(self.run_folder / UNFINISHED_FOLDER)
                (self.run_folder / RESULTS_FILE).unlink(missing_ok=True)  # where it lies, it is that of the model there
                checkpoints.move_files(self.run_folder / UNFINISHED_FOLDER, self.run_folder)

    def _drop_padding(self, folder: Path) -> None:
        """Take what only fills the vocabulary up (`--pad_vocab_to_multiple_of`) out of a saved model."""
        config = self.accelerator.unwrap_model(self.model).config
        if self.processing_class is not None and config.vocab_size > count_ids(self.processing_class):
            model = load_whole_model(folder)
            drop_padding(model, count_ids(self.processing_class))
            model.save_pretrained(folder)

    def check_room(self) -> None:
        """Refuse a run whose checkpoints will not fit on the disk, with a `RunRefusedError`."""
        total_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        planned = math.ceil(total_steps / max(self.args.save_steps, 1)) if self.args.save_strategy == "steps" else 1
        # One more than are kept, the best and the newest among them: the oldest goes after the newest is in place.
        fewest = 1 if self.args.metric_for_best_model is None else 2
        kept = min(planned, max(self.args.save_total_limit or planned, fewest) + 1)
        model_bytes = disk_space.checkpoint_bytes(self.model, optimizer_values=0)
        needed = kept * disk_space.checkpoint_bytes(self.model) + model_bytes
        held = disk_space.folder_bytes(self.run_folder)
        disk_space.check_room(self.run_folder, needed, held, what=f"{kept} checkpoints and the model")
