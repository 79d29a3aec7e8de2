"""All settings of a run, checked, in groups: the model, the data, the optimizer, the run, and the Trainer's own."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import yaml
from transformers import TrainingArguments
from transformers.distributed import DistributedConfig

from train.settings.arguments import RECIPES_FOLDER, DataArguments, ModelArguments, OptimizerArguments, RunArguments
from train.settings.checks import REFUSED, check_numbers, check_pretraining, check_trainer, refuse_others
from train.settings.parser import SettingsParser, pick, refusing_any
from train.settings.resolving import resolve
from train.settings.unread import RESOLVED, find_unread


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
# The Trainer's settings that `--help` shows.
SHOWN = (
    *("output_dir", "resume_from_checkpoint", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"),
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    *("optim", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm"),
    *("bf16", "torch_compile", "activation_checkpointing"),
    *("eval_strategy", "eval_steps", "save_steps", "save_total_limit", "load_best_model_at_end"),
    *("logging_steps", "report_to", "seed", "data_seed", "dataloader_num_workers"),
)


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """The settings that every run has; a child adds groups by declaring them."""

    optimizer: OptimizerArguments
    run: RunArguments
    training: TrainingArguments
    settings: dict  # the flat form that `--config` reads
    all_settings: dict  # those that `settings` leaves out as well
    unread: list[str]  # a line for each setting that was given and has no effect
    sequence_tokens: int  # length of a training sequence, at most
    resume_from: Path | None = None  # the checkpoint to go on from, verified; `None` for a fresh start

    @property
    def run_folder(self) -> Path:
        return Path(self.training.output_dir)

    @property
    def sequences_per_step(self) -> int:
        """Sequences that one optimizer step sees, over all processes and accumulated batches."""
        training = self.training
        return training.train_batch_size * training.gradient_accumulation_steps * self.readers

    @property
    def readers(self) -> int:
        """Processes with batches of their own: those that share each matrix read the same ones."""
        return max(self.training.world_size // self.run.tp_size, 1)

    @property
    def sharding(self) -> DistributedConfig | None:
        """How the model is spread over the processes; `None` where each holds the whole of it."""
        fsdp_size, tp_size = self.run.fsdp_size, self.run.tp_size
        if fsdp_size * tp_size == 1:
            return None
        replicas = self.training.world_size // (fsdp_size * tp_size)
        return DistributedConfig(dp_replicate_size=replicas, fsdp_size=fsdp_size, tp_size=tp_size)

    @property
    def tokens_per_step(self) -> int:
        return self.sequences_per_step * self.sequence_tokens

    def describe_step(self) -> str:
        """The tokens of an optimizer step, as a product."""
        training = self.training
        return (
            f"{self.tokens_per_step:,} = {training.train_batch_size} sequences x "
            f"{training.gradient_accumulation_steps} accumulated x {self.readers} processes x "
            f"{self.sequence_tokens} tokens"
        )

    def trainer_values(self) -> dict[str, Any]:
        """The values that a `RunTrainer` takes beside those of transformers' Trainer."""
        return {
            "recipe_text": self.to_yaml(),
            "optimizer_settings": self.optimizer,
            "spike_score": self.run.loss_spike_score,
            "skip_spikes": self.run.skip_loss_spikes,
            "async_save": self.run.async_save,
            "sharding": self.sharding,
        }

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True)


AnyRecipe = TypeVar("AnyRecipe", bound=RunRecipe)


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """One pre-training run's settings, checked."""

    model: ModelArguments
    data: DataArguments


def parse_recipe(argv: list[str]) -> Recipe:
    """Resolve the settings on a command line; a `ValueError` names what is unknown, mistyped or does not fit."""
    recipe = build_recipe(Recipe, settings_parser(argv), argv, "sequence_length")
    check_pretraining(recipe.model, recipe.data, recipe.run, recipe.training)
    return recipe


def settings_parser(argv: list[str]) -> SettingsParser:
    return SettingsParser(
        groups=OWN_GROUPS,
        trainer=TrainingArguments,
        shown=SHOWN,
        defaults=TRAINING_DEFAULTS,
        script="train/pretrain.py",
        description="Pre-train GPT-2. With no settings: the demo, on the embedded sample.",
        recipes=RECIPES_FOLDER,
        show_all="--help_all" in argv,
    )


def build_recipe(kind: type[AnyRecipe], parser: SettingsParser, argv: list[str], length_name: str) -> AnyRecipe:
    """A recipe of some kind, with the checks that all kinds share; `length_name` names the bound of a sequence."""
    settings = given = parser.resolve(argv)
    check_numbers(settings, parser.stock_defaults)
    refuse_others(settings, REFUSED)
    # Without this the processes of a distributed run on CPUs never meet: each would train alone, in the same folder.
    use_cpu = settings["use_cpu"] or not torch.accelerator.is_available()
    settings = resolve(settings, on_cpu=use_cpu)
    groups: dict[str, Any] = {
        field.name: pick(settings, cast(type, field.type))
        for field in dataclasses.fields(kind)
        if dataclasses.is_dataclass(field.type) and field.name != "training"
    }
    with refusing_any():
        training = pick({**settings, "use_cpu": use_cpu}, parser.trainer)
    check_trainer(training, groups["optimizer"])
    return kind(
        **groups,
        training=training,
        settings=parser.settings_to_save(settings),
        all_settings=settings,
        unread=find_unread(
            {**settings, "use_cpu": use_cpu, **{name: given[name] for name in RESOLVED}},
            {name: parser.get_default(name) for name in parser.names},
        ),
        sequence_tokens=settings[length_name],
    )
