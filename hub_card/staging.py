"""What is published of a run: a list of files, and nothing that is not on it.

Left behind are the checkpoints with their optimizer states, the Trainer's state, TensorBoard's logs, whatever else lies
in the folder, and any pickle, which would run code when it is opened.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from shutil import copyfile

import yaml
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from transformers import AutoTokenizer
from transformers.dynamic_module_utils import get_relative_import_files

from hub_card.card.card import CARD_FILE, render_card, render_stock_card
from hub_card.card.run_record import is_local_path, read_run
from hub_card.upload import staged_files
from modeling_gpt2scratch import GPT2ScratchForCausalLM, save_as_hf_gpt2
from train.run_files import (
    CONFIG_FILE,
    CURVE_FILE,
    EVALUATION_FILE,
    EVALUATION_PICTURE_FILE,
    LOCK_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    SAMPLES_FILE,
)


MAIN_BRANCH = "main"
STOCK_BRANCH = "gpt2"
LICENSE_FILE = "LICENSE"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
REQUIRED = (CONFIG_FILE, "generation_config.json", "tokenizer.json", "tokenizer_config.json", RESULTS_FILE, RECIPE_FILE)
# There with some tokenizers and recipes only.
OPTIONAL = ("chat_template.jinja", "special_tokens_map.json", CURVE_FILE, SAMPLES_FILE)


def find_run(name: str) -> Path:
    """The folder of a finished run.

    Raises:
        ValueError: there is no such folder, no model in it, or the run has not come to its end.
    """
    run = Path(name)
    if not run.is_dir():
        raise ValueError(f"{run}: there is no such folder. Name a run's --output_dir, e.g. runs/demo.")
    if not (run / CONFIG_FILE).is_file() or not any(run.glob("model*.safetensors")):
        raise ValueError(
            f"{run} holds no model: a run leaves it there at its end. Let it go on to there, with the command that "
            "started it and --resume_from_checkpoint true, or name another folder."
        )
    if not (run / RESULTS_FILE).is_file():
        raise ValueError(
            f"{run} has no {RESULTS_FILE}: it is a checkpoint, or a run that did not come to its end. Name the run's "
            "own folder, or let the run end (--resume_from_checkpoint true)."
        )
    missing = [file for file in REQUIRED if not (run / file).is_file()]
    if missing:
        raise ValueError(f"{run} lacks {', '.join(missing)}: copy the whole run folder, or train it again.")
    return run


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Keep a run from writing into its folder meanwhile: its results would not be those of its weights.

    Raises:
        ValueError: one is.
    """
    lock = run / LOCK_FILE
    if not os.access(lock, os.W_OK):  # never locked here, or not ours: then no run of ours writes
        yield
        return
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"A run is writing into {run}: wait for its end.") from None


def stage(run: Path, place: Path, repo_id: str, with_stock: bool = True) -> dict[str, Path]:
    """Write into `place` what is to be published.

    Returns:
        The folder of each branch of the repository.

    Raises:
        ValueError: the run folder lacks something, or its model is not what stock GPT-2 computes.
    """
    record = read_run(run)
    main = place / MAIN_BRANCH
    main.mkdir()
    for file in [*list_files(run), *([run / EVALUATION_FILE] if record.evaluation else [])]:
        copyfile(file, main / file.name)
    if record.has_picture:
        copyfile(run / EVALUATION_PICTURE_FILE, main / EVALUATION_PICTURE_FILE)
    (main / LICENSE_FILE).write_text(read_license(), encoding="utf-8")
    (main / CARD_FILE).write_text(render_card(record, repo_id, with_stock), encoding="utf-8")
    if not with_stock:
        return {MAIN_BRANCH: main}

    stock = place / STOCK_BRANCH
    model, tokenizer = open_model(run), AutoTokenizer.from_pretrained(run)
    try:
        save_as_hf_gpt2(model, tokenizer, stock)
    except ValueError as error:
        raise ValueError(f"{error} Here that is --without_stock.") from error
    (stock / LICENSE_FILE).write_text(read_license(), encoding="utf-8")
    (stock / CARD_FILE).write_text(render_stock_card(record, repo_id), encoding="utf-8")
    return {MAIN_BRANCH: main, STOCK_BRANCH: stock}


def read_license() -> str:
    """The text of the code's licence, which asks to go wherever the code goes."""
    (file,) = (file for file in files("gpt2scratch") or [] if file.name == LICENSE_FILE)
    return file.read_text()


def open_model(run: Path) -> GPT2ScratchForCausalLM:
    """The run's model, by this package's code, on the CPU, with dropout off.

    Raises:
        ValueError: its weights cannot be read.
    """
    try:
        return GPT2ScratchForCausalLM.from_pretrained(run).eval()
    except SafetensorError as error:
        raise ValueError(f"The weights in {run} are damaged ({error}): copy them again from a checkpoint.") from error


def list_files(run: Path) -> list[Path]:
    """The files of a run that are published, the card aside; by name."""
    files = {run / name for name in REQUIRED} | {run / name for name in OPTIONAL if (run / name).is_file()}
    files |= {file for pattern in WEIGHTS for file in run.glob(pattern)} | set(list_code(run))
    return sorted(files)


def list_code(run: Path) -> list[Path]:
    """The Python files that the classes in `auto_map` are made of: those named there, and what they import.

    Raises:
        ValueError: one of them is not there, or no class is named.
    """
    auto_map = json.loads((run / CONFIG_FILE).read_text(encoding="utf-8")).get("auto_map", {})
    if not auto_map:
        raise ValueError(f"{run / CONFIG_FILE} has no auto_map, so nobody could open the model: train it again.")
    code = {run / f"{reference.rpartition('.')[0]}.py" for reference in auto_map.values()}
    try:
        code |= {Path(file) for start in sorted(code) for file in get_relative_import_files(start)}
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing, and the model's code needs it: copy the run again.") from error
    return sorted(code)


def list_local_paths(folder: Path) -> list[tuple[str, str]]:
    """Absolute paths in the staged recipe and results, each with the file's name: they may name people and machines."""
    recipe = yaml.safe_load((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    data = json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8")).get("data", {})
    found = {
        (name, text)
        for name, values in ((RECIPE_FILE, recipe), (RESULTS_FILE, data))
        for value in values.values()
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str) and is_local_path(text)
    }
    return sorted(found)


def describe_branches(branches: dict[str, Path], repo_id: str) -> str:
    """What would be uploaded, with sizes in bytes, as text."""
    lines = []
    for branch, folder in branches.items():
        sizes = {path: file.stat().st_size for path, file in staged_files(folder).items()}
        lines.append(f"{repo_id}, branch {branch}: {len(sizes)} files, {sum(sizes.values()):,} bytes")
        lines += [f"  {size:>15,}  {name}" for name, size in sizes.items()]
    return "\n".join(lines)
