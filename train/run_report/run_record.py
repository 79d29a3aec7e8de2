"""All that the files of a run folder say: of a run that trains, has ended, or was killed."""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout

from train.checkpointing.checkpoints import checkpoints_in
from train.evaluation.record import is_of_weights, read_evaluation
from train.run_files import (
    BEFORE_FILE,
    CONFIG_FILE,
    EMISSIONS_FILE,
    EVALUATION_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    RECIPE_FILE,
    REPORT_DATA_FILE,
    RESULTS_FILE,
    SAMPLES_FILE,
    TRAINER_STATE_FILE,
    read_dict,
    read_samples,
)


Condition = Literal["running", "finished", "stopped", "failed"]
FILES_OF_PARTS = {  # of the record below
    "record": REPORT_DATA_FILE,
    "results": RESULTS_FILE,
    "recipe": RECIPE_FILE,
    "config": CONFIG_FILE,
    "evaluation": EVALUATION_FILE,
    "samples": SAMPLES_FILE,
    "exam_before": BEFORE_FILE,
    "log": TRAINER_STATE_FILE,
    "emissions": EMISSIONS_FILE,
}
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """While a run trains, results and evaluation are left out: they would be those of an earlier run. What has no file
    is empty."""

    folder: Path
    record: dict  # of `report.json`
    results: dict
    recipe: dict
    config: dict
    evaluation: dict
    evaluation_fits: bool  # it is of the weights in the folder
    log: list[dict]  # the Trainer's lines, from the file that goes furthest
    final_log: list[dict]  # those up to the model in the folder
    total_steps: int | None  # to train; `None` where that is not recorded
    samples: list[dict]
    exam_before: list[dict]  # the marks before the first step
    emissions: dict[str, float]  # over all starts, if codecarbon tracked them: kWh `energy_consumed`, kg `emissions`
    is_held: bool  # a process trains into the folder
    damaged: dict[str, str]  # files that could not be read, and why

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def step(self) -> int:
        return max(last_step(self.log), self.record.get("step", 0))

    @property
    def condition(self) -> Condition:
        """The last status that the run wrote; a run that was killed could not write that it stopped."""
        said = self.record.get("condition")
        if said in ("finished", "stopped", "failed"):
            return said
        if self.is_held:
            return "running"
        return "finished" if self.results and (said is None or self.step == self.total_steps) else "stopped"

    def figure(self, *keys: str) -> float | None:
        """A number in the results, by the keys that lead to it; `None` where it is missing or not finite."""
        value: Any = self.results
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and math.isfinite(value) else None

    @property
    def method(self) -> str | None:
        """Of a post-training; `None` for a pre-training."""
        return self.recipe.get("method")

    @property
    def data(self) -> dict:
        return self.results.get("data", {})

    @property
    def datasets(self) -> list[dict]:
        """What is recorded of each dataset, and its `name` to show; one on the Hub has a `dataset_revision`."""
        return [{**data, "name": name_to_show(data)} for data in self.data.get("datasets") or [self.data]]

    @property
    def hub_datasets(self) -> list[str]:
        """The ids of the datasets on the Hub; local files and the embedded sample have no commit."""
        return list(dict.fromkeys(data["name"] for data in self.datasets if data.get("dataset_revision")))

    @property
    def validation_source(self) -> dict:
        """`name`, `revision` and `split` of the validation rows: of a set that was named apart, or of the dataset."""
        apart = self.data.get("validation_set")
        source = apart if isinstance(apart, dict) else self.data
        names = [name_to_show(apart)] if source is apart else [data["name"] for data in self.datasets]
        return {
            "name": ", ".join(filter(None, names)) or None,
            "revision": source.get("dataset_revision"),
            "split": source.get("dataset_split") if source is apart else "validation",
        }

    @property
    def languages(self) -> list[str]:
        """Codes of the languages of the rows that were used, most rows first."""
        rows = sum((Counter(data.get("rows_by_language", {})) for data in self.datasets), Counter())
        codes = [name for name in rows if re.fullmatch("[a-z]{2,3}", name) and rows[name]]
        return sorted(codes, key=lambda code: (-rows[code], code))


def name_to_show(source: dict) -> str | None:
    """A dataset's; of a local file the last part only, since the rest of its path is private."""
    dataset = source.get("dataset")
    return dataset if source.get("dataset_revision") or not dataset else Path(dataset).name


def find_run(folder: Path) -> Path:
    """The folder, if it is a run's; raises a `ValueError` else."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder. Name a run's --output_dir, e.g. runs/demo.")
    if (folder / MANIFEST_FILE).is_file():
        raise ValueError(f"{folder} is a checkpoint: name the run's own folder, {folder.resolve().parent.name}.")
    if not any((folder / file).is_file() for file in (RECIPE_FILE, REPORT_DATA_FILE, RESULTS_FILE)):
        raise ValueError(f"{folder} holds no run: there is no {RECIPE_FILE} in it. Name a run's --output_dir.")
    return folder


def read_run(folder: Path, is_held: bool | None = None) -> RunRecord:
    """Read a run folder. A missing file is no error, and a damaged one is named.

    `is_held` says whether a process trains into it; found out where unset.
    """
    damaged: dict[str, str] = {}

    def read(name: str, load: Callable[[Path], Found]) -> Found | None:
        try:
            return load(folder / name) if (folder / name).is_file() else None
        except (OSError, ValueError) as error:
            text = str(error)
            damaged[name] = text if Path(name).name in text else f"{name} cannot be read: {text}"
            return None

    def read_names(name: str) -> dict:
        return read(name, read_dict) or {}

    held = is_run_held(folder) if is_held is None else is_held
    record = read_names(REPORT_DATA_FILE)
    newest = [f"{checkpoint.name}/{TRAINER_STATE_FILE}" for checkpoint in checkpoints_in(folder)[:1]]
    states = [read_names(name) for name in [TRAINER_STATE_FILE, *newest]]
    logs = [_log(record.get("log")), *(_log(state.get("log_history")) for state in states)]
    totals = [record.get("total_steps"), *(state.get("max_steps") for state in states)]
    evaluation = {} if held else read(EVALUATION_FILE, lambda file: read_evaluation(folder) or {}) or {}
    results = {} if held else read_names(RESULTS_FILE)
    if is_of_weights(results.get("weights_sha256"), folder) is False:
        damaged[RESULTS_FILE] = f"{RESULTS_FILE} is of other weights than those in the folder now."
    return RunRecord(
        folder=folder,
        record=record,
        results=results,
        recipe=read_names(RECIPE_FILE),
        config=read_names(CONFIG_FILE),
        evaluation=evaluation,
        evaluation_fits=bool(evaluation and is_of_weights(evaluation["model"]["weights_sha256"], folder)),
        # While a run trains, other files may be those of an earlier run.
        log=logs[0] if held and record else max(logs, key=last_step),
        final_log=logs[1],
        total_steps=next((total for total in totals if total and isinstance(total, int)), None),
        samples=read(SAMPLES_FILE, lambda file: read_samples(folder)) or [],
        exam_before=read_names(BEFORE_FILE).get("exam", []),
        emissions=read(EMISSIONS_FILE, _sum_emissions) or {},
        is_held=held,
        damaged=damaged,
    )


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Keep a run from writing while its files are read; raises a `ValueError` where one writes already."""
    lock = folder / LOCK_FILE
    # A file that is not there, or not ours, is held by no run of ours.
    is_ours = os.access(lock, os.W_OK)
    try:
        with FileLock(lock, timeout=0) if is_ours else nullcontext():
            yield
    except Timeout:
        raise ValueError(f"A run is writing into {folder}: wait for its end.") from None


def is_run_held(folder: Path) -> bool:
    """Whether a process trains into the folder: it holds the lock."""
    try:
        with hold_run(folder):
            return False
    except ValueError:
        return True


def _sum_emissions(file: Path) -> dict[str, float]:
    with open(file, encoding="utf-8", newline="") as lines:
        starts = list(csv.DictReader(lines))
    return {name: sum(float(start.get(name) or 0) for start in starts) for name in ("energy_consumed", "emissions")}


def _log(lines: Any) -> list[dict]:
    """The lines of a log, each of which has its step; of anything else, none."""
    is_log = isinstance(lines, list) and all(
        isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines
    )
    return lines if is_log else []


def last_step(log: list[dict]) -> int:
    """The step of the last line; 0 where there is none."""
    return log[-1]["step"] if log else 0
