"""All settings of a post-training run: defaults, overridden by a YAML recipe, overridden by the command line.

Groups of our own, and everything that the method's TRL config (`SFTConfig`, `DPOConfig`, `GRPOConfig`) has, under its
own names.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainingArguments

from train.post_training.settings.arguments import (
    METHODS,
    POST_TRAINING_RECIPES,
    LoraArguments,
    PairArguments,
    PostTrainingRunArguments,
    RowsArguments,
    StartArguments,
)
from train.post_training.settings.checks import check_lora, check_method_settings, check_rows
from train.post_training.settings.method_checks import check_dpo, check_grpo
from train.run_files import RECIPE_FILE
from train.settings.arguments import OptimizerArguments
from train.settings.checks import check_optimizer, check_run, check_trainer
from train.settings.recipe import TRAINING_DEFAULTS, RunParser, RunRecipe, pick, pick_training
from train.settings.recipe_file import read_recipe_file


OWN_GROUPS = (StartArguments, RowsArguments, PairArguments, LoraArguments, OptimizerArguments, PostTrainingRunArguments)

# Below any recipe. The learning rate is left to the method's config.
POST_TRAINING_DEFAULTS = {
    **{name: value for name, value in TRAINING_DEFAULTS.items() if name != "learning_rate"},
    "output_dir": "runs/finetuned",
    "num_train_epochs": 1,
    "weight_decay": 0.0,
    "bf16": False,  # TRL would switch it on by itself, also where the hardware has none
    "activation_checkpointing": False,  # likewise; models of this size fit without
}


# Settings of a method that a resolved recipe shows in any case, with those above.
SHOWN = {"sft": ("packing",), "dpo": ("beta",), "grpo": ("num_generations", "beta")}


@dataclass(frozen=True, kw_only=True)
class PostTrainingRecipe(RunRecipe):
    """One post-training run's settings, checked.

    Attributes:
        training: an `SFTConfig`, `DPOConfig` or `GRPOConfig`.
        longest_sequence_tokens: of question and answer together; under grpo of the answer.
    """

    start: StartArguments
    rows: RowsArguments
    pairs: PairArguments
    lora: LoraArguments
    run: PostTrainingRunArguments
    longest_sequence_tokens: int

    @property
    def method(self) -> str:
        return self.run.method

    @property
    def sequence_tokens(self) -> int:
        return self.longest_sequence_tokens


def parse_recipe(words: list[str]) -> PostTrainingRecipe:
    """Resolve the settings on a command line.

    Raises:
        ValueError: an unknown setting (the nearest valid name is given), a value of the wrong type, or settings that do
            not fit together.
    """
    return PostTrainingParser(find_method(words)).parse_recipe(words)


def find_method(words: list[str]) -> str:
    """The method that the words ask for, or the recipe that they name: it decides which settings there are.

    Raises:
        ValueError: there is no such method, or no such recipe.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=PostTrainingRunArguments.config)
    parser.add_argument("--method")
    given, _ = parser.parse_known_args(words)
    method = given.method or read_recipe_file(given.config).get("method", PostTrainingRunArguments.method)
    if method not in METHODS:
        raise ValueError(f"--method {method}: there are {', '.join(METHODS)}.")
    return method


def training_kind(method: str) -> type[TrainingArguments]:
    """The dataclass of a method's settings, imported when it is needed: TRL takes seconds."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.sft_config import SFTConfig

    return {"sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig}[method]


class PostTrainingParser(RunParser):
    """The settings of a method of post-training."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.kind = training_kind(method)
        self.longest_name = "max_completion_length" if method == "grpo" else "max_length"
        own_defaults = {name: vars(self.kind)[name] for name in ("learning_rate", self.longest_name, *SHOWN[method])}
        super().__init__(
            OWN_GROUPS,
            self.kind,
            {**POST_TRAINING_DEFAULTS, **own_defaults},
            "train/finetune.py",
            f"Post-train a model. With no settings: the demo's, after `make pretrain`. Shown are those of {method}.",
            POST_TRAINING_RECIPES,
        )
        self.set_defaults(method=method)

    def parse_recipe(self, words: list[str]) -> PostTrainingRecipe:
        """As `train.settings.recipe.RecipeParser.parse_recipe`."""
        settings = self.resolve(words)
        start, rows = pick(settings, StartArguments), pick(settings, RowsArguments)
        lora, optimizer = pick(settings, LoraArguments), pick(settings, OptimizerArguments)
        run = pick(settings, PostTrainingRunArguments)
        check_rows(rows, run)
        check_run(run)
        training = pick_training(settings, self.kind)
        check_trainer(training)
        check_optimizer(optimizer, training)
        check_lora(lora, optimizer)
        check_method_settings(run.method, settings)
        pairs = pick(settings, PairArguments)
        if run.method == "dpo":
            check_dpo(settings, pairs)
        if run.method == "grpo":
            check_grpo(settings)
        checkpoint = self.find_start(settings, training)
        return PostTrainingRecipe(
            start=start,
            rows=rows,
            pairs=pairs,
            lora=lora,
            optimizer=optimizer,
            run=run,
            training=training,
            longest_sequence_tokens=settings[self.longest_name],
            settings=self.settings_to_save(settings),
            resume_from=checkpoint,
        )

    def settings_of(self, checkpoint: Path) -> dict:
        method = read_recipe_file(str(checkpoint / RECIPE_FILE)).get("method")
        if method != self.method:
            raise ValueError(
                f"{checkpoint} was made by {method or 'pre-training'}, and cannot go on with --method {self.method}: "
                "choose another --output_dir, and name it in --init_from to start from its weights."
            )
        return super().settings_of(checkpoint)
