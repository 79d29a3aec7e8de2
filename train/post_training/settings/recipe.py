"""All settings of a post-training run, checked: groups of our own, and TRL's config of the method."""

import argparse
from dataclasses import dataclass

from train.post_training.settings.arguments import (
    POST_TRAINING_RECIPES,
    LoraArguments,
    PairArguments,
    PostTrainingRunArguments,
    RowsArguments,
    StartArguments,
)
from train.post_training.settings.checks import check_post_training
from train.settings.arguments import OptimizerArguments
from train.settings.parser import SettingsParser
from train.settings.recipe import SHOWN, TRAINING_DEFAULTS, RunRecipe, build_recipe
from train.settings.recipe_file import read_recipe_file


GROUPS = (StartArguments, RowsArguments, PairArguments, LoraArguments, OptimizerArguments, PostTrainingRunArguments)

# Below any recipe. The learning rate is that of the method's config.
POST_TRAINING_DEFAULTS = {
    **TRAINING_DEFAULTS,
    "output_dir": "runs/finetuned",
    "num_train_epochs": 1,
    "weight_decay": 0.0,
    "bf16": False,  # TRL would switch it on by itself, also where the hardware has none
    "activation_checkpointing": False,  # likewise; models of this size fit without
}
# Settings of a method that `--help` shows first; a resolved recipe shows those of the first line in any case.
METHOD_SETTINGS = {
    "sft": (("max_length", "packing"), ("packing_strategy", "loss_type")),
    "dpo": (("max_length", "beta"), ("loss_type", "f_divergence_type", "precompute_ref_log_probs")),
    "grpo": (
        ("max_completion_length", "num_generations", "beta"),
        ("temperature", "top_p", "top_k", "reward_weights", "scale_rewards", "loss_type", "epsilon", "num_iterations"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class PostTrainingRecipe(RunRecipe):
    """One run's settings, checked. `sequence_tokens`: of question and answer together; under grpo of the answer."""

    start: StartArguments
    rows: RowsArguments
    pairs: PairArguments
    lora: LoraArguments
    run: PostTrainingRunArguments

    @property
    def method(self) -> str:
        return self.run.method


def parse_recipe(argv: list[str]) -> PostTrainingRecipe:
    """Resolve the settings on a command line; mistakes are refused as in `train.settings.recipe.parse_recipe`."""
    parser = settings_parser(argv)
    length_name = "max_completion_length" if "max_completion_length" in parser.names else "max_length"
    recipe = build_recipe(PostTrainingRecipe, parser, argv, length_name)
    check_post_training(recipe.method, recipe.all_settings, recipe.pairs, recipe.lora, recipe.optimizer)
    return recipe


def settings_parser(argv: list[str]) -> SettingsParser:
    """The parser of the method that a command line asks for; `ValueError` where there is no such method or recipe."""
    method = _find_method(argv)
    try:  # importing TRL takes seconds
        import peft  # noqa: F401
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.grpo_config import GRPOConfig
        from trl.trainer.sft_config import SFTConfig
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: pip install -c constraints.txt -e .[finetune]") from error

    trainer = {"sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig}[method]
    saved, shown = METHOD_SETTINGS[method]
    parser = SettingsParser(
        groups=GROUPS,
        trainer=trainer,
        shown=(*saved, *shown, *SHOWN),
        defaults=POST_TRAINING_DEFAULTS | {name: vars(trainer)[name] for name in ("learning_rate", *saved)},
        script="train/finetune.py",
        description=f"Post-train a model, here by {method}. With no settings: the demo's, after `make pretrain`.",
        recipes=POST_TRAINING_RECIPES,
        show_all="--help_all" in argv,
    )
    parser.set_defaults(method=method)
    return parser


def _find_method(argv: list[str]) -> str:
    """The method that the words ask for, or the recipe that they name: it decides which settings there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default=PostTrainingRunArguments.config)
    parser.add_argument("--method")
    given, _ = parser.parse_known_args(argv)
    method = given.method or read_recipe_file(given.config).get("method", PostTrainingRunArguments.method)
    if method not in list(METHOD_SETTINGS):  # YAML may hold what has no hash
        raise ValueError(f"--method {method}: there are {', '.join(METHOD_SETTINGS)}.")
    return method
