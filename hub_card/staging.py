"""Stages a run for publishing: the files on a list, and no others.

Left behind are the checkpoints with their optimizer states, the Trainer's state, TensorBoard's logs, whatever else lies
in the folder, and any pickle, which would run code when it is opened.
"""

import json
import logging
import re
from dataclasses import replace
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile

from transformers import PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_relative_import_files

from hub_card.card.card import render_card, render_export_card
from hub_card.export.formats import ONNX_FOLDER, put_template_in_config, write_onnx
from hub_card.upload import CARD_FILE, MAIN_BRANCH
from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, save_as_hf_gpt2
from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model
from train.run_files import (
    CONFIG_FILE,
    CURVE_FILE,
    EVALUATION_FILE,
    EVALUATION_PICTURE_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    SAMPLES_FILE,
    WEIGHTS_INDEX,
    WEIGHTS_PATTERN,
    leave_out_damaged,
    read_dict,
)
from train.run_report import run_record
from train.run_report.run_record import FILES_OF_PARTS, RunRecord


logger = logging.getLogger(__name__)


EXPORT_BRANCH = "gpt2"
LICENSE_FILE = "LICENSE"
REQUIRED = (CONFIG_FILE, "generation_config.json", "tokenizer.json", "tokenizer_config.json", RESULTS_FILE, RECIPE_FILE)
# There with some tokenizers and recipes only.
OPTIONAL = ("chat_template.jinja", "special_tokens_map.json", WEIGHTS_INDEX, CURVE_FILE, SAMPLES_FILE)

# The card has nothing of the others.
FILES_OF_CARD = {part: file for part, file in FILES_OF_PARTS.items() if part not in ("record", "exam_before")}


def find_run(run: Path) -> Path:
    """The folder, if it is a finished run's; raises a ValueError where the run has not come to its end."""
    run_record.find_run(run)
    missing = [file for file in REQUIRED if not (run / file).is_file()]
    if not any(run.glob(WEIGHTS_PATTERN)):
        missing.append(WEIGHTS_PATTERN)
    if missing:
        raise ValueError(
            f"{run} lacks {', '.join(missing)}, so it is no finished run: resume it to its end "
            "(--resume_from_checkpoint true)."
        )
    return run


def read_finished(run: Path) -> RunRecord:
    """A finished run's record, without an evaluation of other weights; a ValueError where a file is damaged, or the
    results are of other weights, so that the card would be of another model."""
    record = run_record.read_run(run, is_held=False)
    if damaged := [why.rstrip(".") for file, why in record.damaged.items() if file in FILES_OF_CARD.values()]:
        raise ValueError(f"{run} is damaged ({'; '.join(damaged)}): copy the whole run again, or let it end again.")
    if record.results.get("weights_sha256") is None:
        logger.warning("%s/%s, of an earlier version, does not tell the weights that it is of.", run, RESULTS_FILE)
    if not record.evaluation or record.evaluation_fits:
        return record
    logger.warning(
        "%s is of other weights than those in %s, and is left out: python -m train.evaluation %s makes a new one.",
        *(EVALUATION_FILE, run, run),
    )
    return replace(record, evaluation={})


def stage(run: Path, place: Path, repo_id: str, with_export: bool = True) -> dict[str, Path]:
    """Write into `place` what is to be published; returns the folder of each branch of the repository. A ValueError
    where the run lacks something, or Hugging Face's GPT-2 does not compute its model."""
    record = read_finished(run)
    _, damaged = leave_out_damaged(record, lambda whole: render_card(whole, repo_id), FILES_OF_CARD)
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
    put_template_in_config(export)
    if find_spec("onnx") is None:
        logger.warning("No ONNX files, so no chat in a visitor's browser: pip install -c constraints.txt -e .[export]")
    else:
        write_onnx(export)
    _write_texts(export, render_export_card(record, repo_id, has_graphs=(export / ONNX_FOLDER).is_dir()))
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
    """The Python files of the classes in `auto_map`: those named there, and those that they import; a ValueError where
    one is not there, or no class is named."""
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
    found = []
    for name in (CONFIG_FILE, RECIPE_FILE, RESULTS_FILE):
        texts = json.dumps(read_dict(folder / name), ensure_ascii=False, default=str)
        found += [(name, path) for path in re.findall(r'"((?:/|~/)[^"]*)"', texts)]
    return found
