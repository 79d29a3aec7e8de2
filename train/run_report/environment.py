"""Where a run is started: versions, hardware, the code's commit and the command, without what names a person."""

import os
import platform
import re
import shlex
import sys
from pathlib import Path

import torch
from transformers import TrainingArguments

from train.hardware import describe_precision
from train.provenance import describe_hardware, describe_versions, git_commit


# From a root or a home on, as it stands in a message; an address has a colon before its slashes.
LOCAL_PATH = re.compile(r"(?<![\w.:/~-])(?:~?/|[A-Za-z]:[\\/])[^\s'\",:;()]*[\\/]([^\s\\/'\",:;()]+)[\\/]?")
HIDDEN = "(hidden)"


def describe_environment(training: TrainingArguments) -> dict[str, object]:
    """Names and values to show, in this order; a value that is not known is `None`."""
    return {
        "command": describe_command(sys.argv),
        "git commit": git_commit() or "none: not a checkout, or one with changes",
        "hardware": describe_hardware(),
        "processes": f"{training.world_size} on {training.device.type}, {torch.get_num_threads()} thread(s) each",
        "precision": describe_precision(training),
        "system": f"{platform.system()}, {platform.machine()}",
        **describe_versions("accelerate", "datasets", "tokenizers"),
        "CUDA": torch.version.cuda,
    }


def describe_command(words: list[str]) -> str:
    """A command line to show: secrets hidden, absolute paths without the folders that lead to them."""
    shown = []
    secret = False
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if secret or (equals and is_secret(name)):
            value = HIDDEN
        shown.append(f"{name}{equals}{shorten_path(value)}")
        secret = is_secret(word)
    return shlex.join(["python", *shown])


def is_secret(name: str) -> bool:
    """Whether a setting holds a key to something, as `hub_token` does."""
    return name.endswith("_token")


def shorten_path(word: str) -> str:
    """A path as seen from here, or its last part: the folders that lead to it may name a person or a machine."""
    if not word.startswith(("/", "~")) and not Path(word).is_absolute():
        return word
    path = Path(word)
    return str(path.relative_to(os.getcwd())) if path.is_relative_to(os.getcwd()) else f".../{path.name}"


def shorten_paths_in(text: str) -> str:
    """The same for all paths within a message."""
    return LOCAL_PATH.sub(r".../\1", text.replace(f"{os.getcwd()}/", ""))
