"""A recipe, a flat YAML file of settings, read as command-line words."""

import difflib
import json
import re
from pathlib import Path

import yaml

from train.settings.arguments import RECIPES_FOLDER


# Older names, which recipes in old run folders and checkpoints still have.
RENAMED = {
    "block_size": "sequence_length",
    "max_eval_blocks": "max_eval_sequences",
    "forgetting_blocks": "forgetting_sequences",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}


def read_recipe_words(path: str, names: list[str]) -> list[str]:
    """A YAML recipe as command-line words; a `ValueError` as of `read_recipe_file`, or for a key that is no setting."""
    settings = read_recipe_file(path)
    for name in settings:
        if name not in names:
            raise ValueError(f"{path}: {unknown_setting(str(name), names)}")
    return settings_to_words(settings)


def settings_to_words(settings: dict) -> list[str]:
    words = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name}")
            words += [json.dumps(item) if isinstance(item, dict | bool) else str(item) for item in values]
    return words


def read_recipe_file(path: str) -> dict:
    """A YAML recipe's settings under their present names, unchecked; a `ValueError` if there are none in the file."""
    file = Path(path)
    if not file.is_file():
        shipped = sorted([*RECIPES_FOLDER.glob("*.yaml"), *RECIPES_FOLDER.glob("post_training/*.yaml")])
        raise ValueError(f"--config {path}: no such file. The shipped recipes are {', '.join(map(str, shipped))}.")
    try:
        settings = yaml.load(file.read_text(encoding="utf-8"), Loader=_RecipeLoader)
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold settings as 'name: value' lines.")
    return {RENAMED.get(name, name) if isinstance(name, str) else str(name): value for name, value in settings.items()}


class _RecipeLoader(yaml.SafeLoader):
    """YAML as people read it: `6e-4` is a number and `no` is a word (YAML 1.1 has them the other way round), and a
    name that stands twice is a mistake (YAML takes the last)."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise yaml.YAMLError(f"{name!r} stands twice in it. Leave one out.")
        return super().construct_mapping(node, deep)


_BOOL, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
_RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RecipeLoader.add_implicit_resolver(_BOOL, re.compile(r"true|false", re.IGNORECASE), list("tTfF"))
_RecipeLoader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)|[-+]?(\d+\.\d*|\.\d+)"), list("-+0123456789.")
)


def unknown_setting(name: str, names: list[str]) -> str:
    if RENAMED.get(name.replace("-", "_")) in names:
        return f"--{name} is now --{RENAMED[name.replace('-', '_')]}."
    nearest = difflib.get_close_matches(name.replace("-", "_"), names, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"There is no setting {name!r}.{hint} `--help_all` lists all."
