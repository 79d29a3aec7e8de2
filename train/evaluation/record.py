"""Reads and writes `evaluation.json`, whose keys README.md tells. Importing this module loads no heavy library."""

import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

from train.run_files import EVALUATION_FILE, write_whole


logger = logging.getLogger(__name__)

FORMAT = 1  # raised when a key changes its meaning
PARTS = ("validation", "exam", "tasks")


def write_evaluation(folder: Path, evaluation: dict) -> Path:
    file = folder / EVALUATION_FILE
    write_whole(file, json.dumps(evaluation, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return file


def read_evaluation(folder: Path) -> dict | None:
    """The evaluation in a run folder; `None` where there is none, a `ValueError` where it cannot be read, or a newer
    version of this code wrote it."""
    file = folder / EVALUATION_FILE
    if not file.is_file():
        return None
    try:
        # "held_out" is the name that evaluations of earlier versions give to the part "validation".
        text = file.read_text(encoding="utf-8").replace('"held_out":', '"validation":')
        evaluation = json.loads(text)
        written, _, _ = evaluation["format"], evaluation["date"], evaluation["model"]["weights_sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): evaluate again.") from error
    if written != FORMAT:
        raise ValueError(f"{file} has format {written}, this code reads {FORMAT}: evaluate again.")
    return evaluation


def keep_earlier(evaluation: dict, folder: Path) -> dict:
    """Add the parts, and the tasks, that were not made again, from the folder's evaluation of the same weights."""
    try:
        earlier = read_evaluation(folder)
    except ValueError:  # it is about to be replaced
        earlier = None
    digest = evaluation["model"]["weights_sha256"]
    if earlier is None or digest is None:
        return evaluation
    if earlier["model"]["weights_sha256"] != digest:
        logger.warning("The %s of other weights, of %s, is replaced.", folder / EVALUATION_FILE, earlier["date"][:10])
        return evaluation
    kept = {part: earlier[part] for part in PARTS if part in earlier and part not in evaluation}
    if "tasks" in evaluation and "tasks" in earlier:
        again = {figure["task"] for figure in evaluation["tasks"]}
        old = [figure for figure in earlier["tasks"] if figure["task"] not in again]
        kept |= {"tasks": evaluation["tasks"] + old} if old else {}
    dates = {part: earlier.get("kept_from", {}).get(part, earlier["date"]) for part in kept}
    return {**evaluation, **kept, "kept_from": dates}


def is_of_weights(digest: str | None, folder: Path) -> bool | None:
    """Whether figures are of the weights in the folder now; `None` where there are none, or without a digest."""
    found = hash_weights(folder.glob("*.safetensors")) if digest is not None else None
    return None if found is None else found == digest


def hash_weights(files: Iterable[Path]) -> str | None:
    """A file's SHA-256, as the Hub shows it; of several files that of their names and sums; `None` of none."""
    lines = []
    for file in sorted(files):
        with open(file, "rb") as opened:
            lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
    if len(lines) < 2:
        return lines[0].split()[0] if lines else None
    return hashlib.sha256("".join(lines).encode()).hexdigest()
