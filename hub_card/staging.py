"""Stages a run for publishing: the files on a list, and no others.

Left behind are the checkpoints with their optimizer states, the Trainer's state, TensorBoard's logs, whatever else lies
in the folder, and any pickle, which would run code when it is opened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import files
from pathlib import Path
from shutil import copyfile

from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_relative_import_files

from hub_card.card.card import render_card, render_export_card
from hub_card.card.run_record import is_local_path, read_run
from hub_card.upload import CARD_FILE, MAIN_BRANCH
from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, save_as_hf_gpt2
from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model
from train.run_files import (
    CONFIG_FILE,
    CURVE_FILE,
    EVALUATION_FILE,
    EVALUATION_PICTURE_FILE,
    LOCK_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    SAMPLES_FILE,
    WEIGHTS_INDEX,
    WEIGHTS_PATTERN,
    leave_out_damaged,
    read_dict,
)


EXPORT_BRANCH = "gpt2"
LICENSE_FILE = "LICENSE"
REQUIRED = (CONFIG_FILE, "generation_config.json", "tokenizer.json", "tokenizer_config.json", RESULTS_FILE, RECIPE_FILE)
# There with some tokenizers and recipes only.
OPTIONAL = ("chat_template.jinja", "special_tokens_map.json", WEIGHTS_INDEX, CURVE_FILE, SAMPLES_FILE)

FILES_OF_PARTS = {  # of the record that the card is made of
    "results": RESULTS_FILE,
    "recipe": RECIPE_FILE,
    "config": CONFIG_FILE,
    "samples": SAMPLES_FILE,
    "evaluation": EVALUATION_FILE,
}


def find_run(run: Path) -> Path:
    """The folder, if it is a finished run's; raises a ValueError where the run has not come to its end."""
    if not run.is_dir():
        raise ValueError(f"{run}: there is no such folder. Name a run's --output_dir, e.g. runs/demo.")
    missing = [file for file in REQUIRED if not (run / file).is_file()]
    if not any(run.glob(WEIGHTS_PATTERN)):
        missing.append(WEIGHTS_PATTERN)
    if missing:
        raise ValueError(
            f"{run} lacks {', '.join(missing)}, so it is no finished run. Name a run's own folder and not a "
            "checkpoint, or resume the run to its end (--resume_from_checkpoint true)."
        )
    return run


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Keep a run from writing while its weights and results are read; raises a ValueError where one writes already."""
    lock = run / LOCK_FILE
    # A file that is not there, or not ours, is held by no run of ours.
    is_ours = os.access(lock, os.W_OK)
    try:
        with FileLock(lock, timeout=0) if is_ours else nullcontext():
            yield
    except Timeout:
        raise ValueError(f"A run is writing into {run}: wait for its end.") from None


def stage(run: Path, place: Path, repo_id: str, with_export: bool = True) -> dict[str, Path]:
    """Write into `place` what is to be published; returns the folder of each branch of the repository.

    Raises:
        ValueError: the run folder lacks something, or Hugging Face's GPT-2 does not compute its model.
    """
    record = read_run(run)
    _, damaged = leave_out_damaged(record, lambda whole: render_card(whole, repo_id), FILES_OF_PARTS)
    if damaged:
        raise ValueError(
            f"{run} has something else in {' or '.join(damaged)} than a run writes: copy it again, or let it end again."
        )
    main, export = place / MAIN_BRANCH, place / EXPORT_BRANCH
    main.mkdir()
    names = [*REQUIRED, *OPTIONAL, *([EVALUATION_FILE, EVALUATION_PICTURE_FILE] if record.evaluation else [])]
    listed = [run / name for name in names if (run / name).is_file()]
    for file in [*listed, *run.glob(WEIGHTS_PATTERN), *list_code(run)]:
        copyfile(file, main / file.name)
    _write_texts(main, render_card(record, repo_id, with_export))
    if not with_export:
        return {MAIN_BRANCH: main}
    model, tokenizer = open_model(run)
    try:
        save_as_hf_gpt2(model, tokenizer, export)
    except ValueError as error:
        raise ValueError(f"{error} Here that is --without_hf_gpt2.") from error
    _write_texts(export, render_export_card(record, repo_id))
    return {MAIN_BRANCH: main, EXPORT_BRANCH: export}


def _write_texts(folder: Path, card: str) -> None:
    """The card, and the code's licence, which asks to go wherever the code goes."""
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    (licence,) = (file for file in files("gpt2scratch") or [] if file.name == LICENSE_FILE)
    (folder / LICENSE_FILE).write_text(licence.read_text(), encoding="utf-8")


def open_model(run: Path) -> tuple[GPT2ScratchForCausalLM, PreTrainedTokenizerBase]:
    """The run's model, by this package's code, on the CPU, without dropout, and its tokenizer; a ValueError if its
    weights are damaged or not all there."""
    model = load_whole_model(run, (GPT2ScratchConfig.model_type,))
    return model, load_own_tokenizer(run, model.config.vocab_size)


def list_code(run: Path) -> set[Path]:
    """The Python files that the classes in `auto_map` are made of: those named there, and those that they import.

    Raises:
        ValueError: one of them is not there, or no class is named.
    """
    auto_map = read_dict(run / CONFIG_FILE).get("auto_map", {})
    if not (auto_map and isinstance(auto_map, dict) and all(isinstance(name, str) for name in auto_map.values())):
        raise ValueError(f"{run / CONFIG_FILE} has no auto_map, so nobody could open the model: train it again.")
    code = {run / f"{reference.rpartition('.')[0]}.py" for reference in auto_map.values()}
    try:
        return code | {Path(file) for start in code for file in get_relative_import_files(start)}
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing, and the model's code needs it: copy the run again.") from error


def list_local_paths(folder: Path) -> list[tuple[str, str]]:
    """Absolute paths in the staged config, recipe and results, with the file: they may name people and machines."""
    files = [file for file in sorted(folder.iterdir()) if file.name in (CONFIG_FILE, RECIPE_FILE, RESULTS_FILE)]
    return [(file.name, text) for file in files for text in _texts_in(read_dict(file)) if is_local_path(text)]


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(part)
