"""Reads the settings of a run: defaults, overridden by a YAML recipe, overridden by the command line."""

import argparse
import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from transformers import HfArgumentParser, TrainingArguments

from train.settings.recipe_file import RENAMED, read_recipe_words, unknown_setting


Arguments = TypeVar("Arguments")

# Not settings of the run itself, but of one call of the script; and a secret.
NOT_SAVED = ("config", "dry_run", "resume_from_checkpoint", "resume_with_changes", "hub_token")
RESUME_HELP = "true: the newest complete checkpoint of --output_dir; auto: that, or a start; or a checkpoint's path."


class OneLineParser(HfArgumentParser):
    """Every mistake is a `ValueError`; names are whole."""

    def __init__(self, kinds: Iterable[type], **options):
        super().__init__(kinds, allow_abbrev=False, **options)

    def error(self, message: str) -> None:
        raise ValueError(message)


class SettingsParser(OneLineParser):
    """The mistakes say what to write instead."""

    def __init__(
        self,
        groups: Iterable[type],  # the dataclasses of a run's own settings
        trainer: type[TrainingArguments],
        shown: Iterable[str],  # the Trainer's settings that `--help` shows, in its order
        defaults: dict,  # of the Trainer's settings, below any recipe
        script: str,
        description: str,
        recipes: Path,  # the folder of the shipped ones
        show_all: bool,
    ) -> None:
        every = [name for name in field_names(trainer) if name not in RENAMED]
        rest = [name for name in every if name not in shown]
        super().__init__(
            [
                *groups,
                _group("training", trainer, shown),
                _group("all other settings of the Trainer", trainer, rest, hidden=not show_all),
            ],
            usage=f"accelerate launch -q {script} [--config RECIPE.yaml] [--SETTING VALUE ...]",
            description=description,
            epilog="Recipes: " + ", ".join(sorted(path.name for path in recipes.glob("*.yaml"))),
        )
        self.add_argument("--help_all", action="help", help="Show all settings, those that are seldom used as well.")
        own = [name for kind in groups for name in field_names(kind)]
        self.names = [*own, *every]
        self.trainer = trainer
        self.stock_defaults = {name: self.get_default(name) for name in self.names}
        self.set_defaults(**defaults)
        for action in self._actions:  # a list without values takes back the one of a recipe
            action.nargs = "*" if action.nargs == "+" else action.nargs
        self.always_saved = {*defaults, *own}

    def resolve(self, argv: list[str]) -> dict:
        """All settings: defaults, under those of the recipe that `argv` names, under those of `argv`."""
        given = self._parse(argv)
        # The recipe's settings become words before the user's: one parser types both, and the later word wins.
        return self._parse(read_recipe_words(given["config"], self.names) + argv)

    def _parse(self, argv: list[str]) -> dict:
        for word in argv:
            if not word.isascii() and word != word.encode(errors="replace").decode():
                raise ValueError(f"{word!a} holds bytes that are no UTF-8: a recipe could not be saved with them.")
        namespace, unknown = self.parse_known_args(argv)
        for word in unknown:
            if word.startswith("--"):
                raise ValueError(unknown_setting(word.partition("=")[0].removeprefix("--"), self.names))
        if unknown:
            raise ValueError(f"Unexpected {unknown[0]!r}: settings are written --name value.")
        settings = vars(namespace)
        unset = [name for name, value in settings.items() if value == [] and self.get_default(name) is None]
        return {**settings, **dict.fromkeys(unset)}

    def settings_to_save(self, settings: dict) -> dict:
        """All settings of ours, and those of the Trainer's that differ from its own defaults."""
        return {
            name: value
            for name, value in settings.items()
            if name not in NOT_SAVED
            and value is not None
            and (name in self.always_saved or value != self.stock_defaults[name])
        }


@contextmanager
def refusing_any() -> Iterator[None]:
    """Around a library that reads settings: whatever it raises becomes a `ValueError` of one line."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())[:600]
        raise ValueError(text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}") from error


def pick(settings: dict, kind: type[Arguments]) -> Arguments:
    """A group of settings out of all of them."""
    return kind(**{name: settings[name] for name in field_names(kind) if name in settings})


def field_names(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _group(title: str, kind: type, names: Iterable[str], hidden: bool = False) -> type:
    """Some fields of a dataclass as a dataclass of their own: for `HfArgumentParser`, a group of `--help`."""
    types = {**get_type_hints(kind), "report_to": list[str], "debug": str}  # HfArgumentParser has no unions of lists
    declared = {field.name: field for field in dataclasses.fields(kind)}
    fields: list[tuple[str, Any, Any]] = []
    for name in names:
        old, metadata = declared[name], dict(declared[name].metadata)
        if name == "resume_from_checkpoint":
            metadata["help"] = RESUME_HELP
        if hidden:
            metadata["help"] = argparse.SUPPRESS
        options: dict[str, Any] = {"default": old.default, "default_factory": old.default_factory}
        fields.append((name, types[name], dataclasses.field(**options, metadata=metadata)))
    return dataclasses.make_dataclass(title.replace(" ", "_"), fields, namespace={"_argument_group_name": title})
