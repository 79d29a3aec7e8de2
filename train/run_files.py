"""The names of the files and folders of a run, each of them once. Importing this module loads no heavy library."""

import argparse
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any


# The model, as transformers writes it, and the Trainer's state
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = f"{WEIGHTS_FILE}.index.json"  # of weights in several files
WEIGHTS_PATTERN = "model*.safetensors"  # of one file or several
TRAINER_STATE_FILE = "trainer_state.json"

# Of the run
RECIPE_FILE = "recipe.yaml"  # all settings
LOCK_FILE = "run.lock"  # held while a process writes into the folder
OWNER_FILE = "run.owner"  # the machine of that process, for others that do not see the lock
BEFORE_FILE = "before.json"  # the exam and losses before the first step
SAMPLES_FILE = "samples.jsonl"  # texts that the model writes during training
PAIRS_FILE = "pairs.jsonl"  # the preference pairs that were made
RESULTS_FILE = "results.json"  # the last file of a finished run
CURVE_FILE = "loss_curve.png"
REPORT_FILE = "report.html"
REPORT_DATA_FILE = "report.json"  # what the report needs and no other file says before the end
EVALUATION_FILE = "evaluation.json"
EVALUATION_PICTURE_FILE = "evaluation.png"
EMISSIONS_FILE = "emissions.csv"  # energy, as codecarbon measures it
TENSORBOARD_FOLDER = "tensorboard"
ADAPTER_FOLDER = "adapter"  # LoRA's weights, beside the merged model
UNFINISHED_FOLDER = "unfinished"  # where a checkpoint is written
DAMAGED_PREFIX = "damaged-"  # of a checkpoint that was put aside

# Of a checkpoint
MANIFEST_FILE = "manifest.json"  # size and SHA-256 of each file; its last file
STREAM_FILE = "stream.json"  # how far a streamed dataset was read


def write_whole(file: Path, text: str) -> None:
    """Write a file so that a reader, or a power cut, finds the old text or the new one, never a part."""
    partial = file.with_name(f"{file.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def command_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE`, which takes whole names only, and whose help shows a docstring as it is."""
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=form, allow_abbrev=False
    )


def filled(text: str) -> str:
    """A word of a command line; an empty one, as of a variable that is not set, would name the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names nothing: write a name, or leave the option out")
    return text


def user_path(text: str) -> Path:
    """A path on a command line, which has `~` for the home also where the shell left it (`--output_dir=~/runs`)."""
    return Path(filled(text)).expanduser()


def number(kind: type, lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """The type of a number on a command line, with its limits."""

    def convert(text: str) -> float:
        if not lowest <= kind(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text} is not in {lowest} to {highest}")
        return kind(text)

    convert.__name__ = kind.__name__
    return convert


def read_dict(file: Path) -> dict:
    """The names and values in a file of JSON or YAML; raises a ValueError if it is damaged or holds anything else."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if file.suffix == ".yaml" else json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{file.name} cannot be read: {' '.join(str(error).split())}") from error
    return content


def leave_out_damaged(record: Any, render: Callable[[Any], str], files: dict[str, str]) -> tuple[Any, list[str]]:
    """A dataclass of what files say, without those parts that `render` fails over, and the names of their files: those
    of `files`, by part. Files that people or other programs changed may hold anything under any name, so what fits is
    found by rendering."""
    for parts in ([], *([part] for part in files), list(files)):
        kept = replace(record, **{part: type(vars(record)[part])() for part in parts})
        with suppress(Exception):
            render(kept)
            return kept, [files[part] for part in parts]
    render(record)  # it is no file's fault: the error is shown as it is
    return record, []


def to_json_line(content: dict) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def read_json_lines(file: Path) -> list[dict]:
    """The lines of a file, without a last one that was cut off."""
    # Not splitlines(): it also splits at characters that models write and JSON leaves as they are.
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def read_samples(run_folder: Path) -> list[dict]:
    """The lines of `samples.jsonl`; empty where there is no such file."""
    file = run_folder / SAMPLES_FILE
    return read_json_lines(file) if file.is_file() else []


def grid_of_samples(samples: list[dict]) -> tuple[list[str], dict[int, list[str]]]:
    """The questions; and by step the texts that answer each of them, empty where there is none."""
    questions = list(dict.fromkeys(sample["question"] for sample in samples))
    texts = {(sample["step"], sample["question"]): sample["text"] for sample in samples}
    return questions, {step: [texts.get((step, name), "") for name in questions] for step, _ in texts}
