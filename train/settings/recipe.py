"""All settings of a run: defaults, overridden by a YAML recipe, overridden by the command line.

Five groups: the model, the data, the optimizer, the run, and everything that transformers' `TrainingArguments` has,
under its own names. A recipe is a flat YAML file of such settings. The resolved one is written into the run folder and
can be given to `--config` again.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from train.checkpointing.resume import adapt_to_checkpoint, find_checkpoint
from train.run_files import RECIPE_FILE
from train.settings.arguments import RECIPES_FOLDER, DataArguments, ModelArguments, OptimizerArguments, RunArguments
from train.settings.checks import check_optimizer, check_settings, check_training
from train.settings.recipe_file import RENAMED, read_recipe_words, unknown_setting


Arguments = TypeVar("Arguments")
Training = TypeVar("Training", bound=TrainingArguments)

OWN_GROUPS = (ModelArguments, DataArguments, OptimizerArguments, RunArguments)


# Below any recipe: what a pre-training run wants where TrainingArguments' own defaults serve fine-tuning.
TRAINING_DEFAULTS = {
    "output_dir": "runs/gpt2scratch",
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "weight_decay": 0.1,
    "max_grad_norm": 1.0,
    "seed": 42,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_steps": 2000,
    "save_total_limit": 3,
    "logging_steps": 10,
    "logging_first_step": True,
    "logging_nan_inf_filter": False,  # a NaN must be seen, not averaged away
    "prediction_loss_only": True,  # evaluation keeps no logits
    "ddp_find_unused_parameters": False,  # there are none, and looking for them costs a pass over the graph a step
    "report_to": ["tensorboard"],
}


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What every run's settings have in common, checked.

    Attributes:
        settings: the flat form that `--config` reads.
        resume_from: the checkpoint to go on from, verified; `None` for a fresh start.
    """

    optimizer: OptimizerArguments
    run: RunArguments
    training: TrainingArguments
    settings: dict
    resume_from: Path | None = None

    @property
    def run_folder(self) -> Path:
        return Path(self.training.output_dir)

    @property
    def sequences_per_step(self) -> int:
        """Sequences that one optimizer step sees, over all processes and accumulated batches."""
        training = self.training
        return training.train_batch_size * training.gradient_accumulation_steps * training.world_size

    @property
    def sequence_tokens(self) -> int:
        """Length of a training sequence, at most."""
        raise NotImplementedError

    @property
    def tokens_per_step(self) -> int:
        return self.sequences_per_step * self.sequence_tokens

    def trainer_values(self) -> dict[str, Any]:
        """The values that a `RunTrainer` takes beside those of transformers' Trainer."""
        return {
            "recipe_text": self.to_yaml(),
            "optimizer_settings": self.optimizer,
            "spike_score": self.run.loss_spike_score,
            "skip_spikes": self.run.skip_loss_spikes,
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)

    def save(self) -> None:
        """Write the resolved recipe into the run folder."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        (self.run_folder / RECIPE_FILE).write_text(self.to_yaml(), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """One pre-training run's settings, checked."""

    model: ModelArguments
    data: DataArguments

    @property
    def sequence_tokens(self) -> int:
        return self.data.sequence_length


class RunParser(HfArgumentParser):
    """Reads recipe and command line; every mistake is a `ValueError` that says what to write instead.

    Args:
        groups: the dataclasses of a run's own settings.
        training: the dataclass of the Trainer's.
        defaults: of the Trainer's settings, below any recipe.
        script, description: for `--help`.
        recipes: the folder of the shipped ones.
    """

    def __init__(
        self, groups: Sequence[type], training: type, defaults: dict, script: str, description: str, recipes: Path
    ) -> None:
        super().__init__(
            [*groups, training],
            usage=f"accelerate launch {script} [--config RECIPE.yaml] [--SETTING VALUE ...]",
            description=description,
            epilog="Recipes: " + ", ".join(sorted(path.name for path in recipes.glob("*.yaml"))),
            allow_abbrev=False,
        )
        self.names = [action.dest for action in self._actions if action.dest not in ("help", *RENAMED)]
        self.stock_defaults = {name: self.get_default(name) for name in self.names}
        self.set_defaults(**defaults)
        self.always_saved = defaults.keys() | {name for kind in groups for name in _field_names(kind)}
        (resume,) = (action for action in self._actions if action.dest == "resume_from_checkpoint")
        (trackers,) = (action for action in self._actions if action.dest == "report_to")
        trackers.nargs = "+"  # transformers' own parser takes a single one
        resume.help = "true: the newest complete checkpoint of --output_dir; auto: that, or a start; or a checkpoint."

    def error(self, message: str) -> None:
        raise ValueError(message)

    def resolve(self, words: list[str]) -> dict:
        """All settings: defaults, under those of the recipe that the words name, under those of the words.

        Raises:
            ValueError: an unknown setting (the nearest valid name is given), or a value of the wrong type.
        """
        given = self._parse_words(words)
        # The recipe's settings become words before the user's: one parser types both, and the later word wins.
        return self._parse_words(read_recipe_words(given["config"], self.names) + words)

    def find_start(self, settings: dict, training: TrainingArguments) -> Path | None:
        """The checkpoint that the settings go on from, if any; `gradient_accumulation_steps` may follow its batch.

        Raises:
            ValueError: there is none to go on from, or the settings do not train what it trained.
        """
        if settings["dry_run"]:
            return None
        checkpoint = find_checkpoint(Path(training.output_dir), training.resume_from_checkpoint)
        if checkpoint is not None:
            before = self.settings_of(checkpoint)
            accumulated = adapt_to_checkpoint(
                checkpoint, before, settings, training.train_batch_size, training.world_size
            )
            training.gradient_accumulation_steps = settings["gradient_accumulation_steps"] = accumulated
        return checkpoint

    def settings_of(self, checkpoint: Path) -> dict:
        """All settings that a checkpoint was made with."""
        return self._parse_words(read_recipe_words(str(checkpoint / RECIPE_FILE), self.names))

    def _parse_words(self, words: list[str]) -> dict:
        namespace, unknown = self.parse_known_args(words)
        deprecated = [word for word in words if word.partition("=")[0].removeprefix("--").replace("-", "_") in RENAMED]
        for word in [*deprecated, *unknown]:
            if word.startswith("--"):
                raise ValueError(unknown_setting(word.partition("=")[0].removeprefix("--"), self.names))
        if unknown:
            raise ValueError(f"Unexpected {unknown[0]!r}: settings are written --name value.")
        return vars(namespace)

    def settings_to_save(self, settings: dict) -> dict:
        """All settings of ours, and those of the Trainer's that differ from its own defaults."""
        # Not settings of the run itself, but of one call of the script; and what nobody else may read.
        once = {"config", "dry_run", "resume_from_checkpoint", "resume_with_changes", "hub_token"}
        return {
            name: value
            for name, value in settings.items()
            if name in self.names
            and name not in once
            and value is not None
            and (name in self.always_saved or value != self.stock_defaults[name])
        }


class RecipeParser(RunParser):
    """The settings of pre-training."""

    def __init__(self) -> None:
        description = "Pre-train GPT-2. With no settings: the demo, on the embedded sample."
        super().__init__(
            OWN_GROUPS, TrainingArguments, TRAINING_DEFAULTS, "train/pretrain.py", description, RECIPES_FOLDER
        )

    def parse_recipe(self, words: list[str]) -> Recipe:
        """Resolve the settings on a command line.

        Raises:
            ValueError: an unknown setting (the nearest valid name is given), a value of the wrong type, or settings
                that do not fit together.
        """
        settings = self.resolve(words)
        model, data = pick(settings, ModelArguments), pick(settings, DataArguments)
        optimizer, run = pick(settings, OptimizerArguments), pick(settings, RunArguments)
        check_settings(model, data, run)
        training = pick_training(settings, TrainingArguments)
        check_training(training, data)
        check_optimizer(optimizer, training)
        checkpoint = self.find_start(settings, training)
        return Recipe(
            model=model,
            data=data,
            optimizer=optimizer,
            run=run,
            training=training,
            settings=self.settings_to_save(settings),
            resume_from=checkpoint,
        )


def pick(settings: dict, kind: type[Arguments]) -> Arguments:
    """A group of settings out of all of them."""
    return kind(**{name: settings[name] for name in _field_names(kind)})


def pick_training(settings: dict, kind: type[Training]) -> Training:
    """The Trainer's settings out of all of them."""
    # Without this the processes of a distributed run on CPUs never meet: each would train alone, in the same folder.
    return pick({**settings, "use_cpu": settings["use_cpu"] or not torch.accelerator.is_available()}, kind)


def _field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]
