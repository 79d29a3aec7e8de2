"""All that the files of a run folder say: of a run that trains, has ended, or was killed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout

from train.checkpointing.checkpoints import checkpoints_in
from train.evaluation.record import fits_weights, is_of_others, read_evaluation
from train.run_files import (
    BEFORE_FILE,
    EMISSIONS_FILE,
    EVALUATION_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    RECIPE_FILE,
    REPORT_DATA_FILE,
    RESULTS_FILE,
    SAMPLES_FILE,
    TRAINER_STATE_FILE,
    read_codecarbon,
    read_dict,
    read_samples,
)


Condition = Literal["running", "finished", "stopped", "failed"]
FILES_OF_PARTS = {  # of the record below
    "record": REPORT_DATA_FILE,
    "results": RESULTS_FILE,
    "recipe": RECIPE_FILE,
    "evaluation": EVALUATION_FILE,
    "samples": SAMPLES_FILE,
    "exam_before": BEFORE_FILE,
    "log": TRAINER_STATE_FILE,
}
Found = TypeVar("Found")


@dataclass(frozen=True)
class RunRecord:
    """While a run trains, results and evaluation are left out: they would be those of an earlier run."""

    name: str  # of the run folder
    record: dict  # of `report.json`; this and the next three are empty where there is no file
    results: dict
    recipe: dict
    evaluation: dict
    evaluation_fits: bool  # it is of the weights in the folder
    log: list[dict]  # the Trainer's lines, from the file that goes furthest
    total_steps: int | None  # to train; `None` where that is not recorded
    samples: list[dict]
    exam_before: list[dict]  # the marks before the first step
    energy_kwh: float | None  # as codecarbon measured it
    is_held: bool  # a process trains into the folder
    damaged: list[str]  # files that could not be read, and why

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
    files = _Files(folder)
    held = is_run_held(folder) if is_held is None else is_held
    record = files.read_dict(REPORT_DATA_FILE)
    newest = [checkpoint.name for checkpoint in checkpoints_in(folder)[:1]]
    states = [files.read_dict(f"{place}/{TRAINER_STATE_FILE}") for place in [".", *newest]]
    logs = [_log(record.get("log")), *(_log(state.get("log_history")) for state in states)]
    totals = [record.get("total_steps"), *(state.get("max_steps") for state in states)]
    evaluation = {} if held else files.read(EVALUATION_FILE, lambda: read_evaluation(folder)) or {}
    results = {} if held else files.read_dict(RESULTS_FILE)
    if is_of_others(results, folder):
        files.damaged.append(f"{RESULTS_FILE} is of other weights than those in the folder now.")
    return RunRecord(
        name=folder.resolve().name,
        record=record,
        results=results,
        recipe=files.read_dict(RECIPE_FILE),
        evaluation=evaluation,
        evaluation_fits=bool(evaluation) and fits_weights(evaluation, folder),
        # While a run trains, other files may be those of an earlier run.
        log=logs[0] if held and record else max(logs, key=last_step),
        total_steps=next((total for total in totals if total and isinstance(total, int)), None),
        samples=files.read(SAMPLES_FILE, lambda: read_samples(folder)) or [],
        exam_before=files.read_dict(BEFORE_FILE).get("exam", []),
        energy_kwh=files.read(EMISSIONS_FILE, lambda: read_codecarbon(folder, "energy_consumed")),
        is_held=held,
        damaged=files.damaged,
    )


class _Files:
    """Reads files of a folder, and notes which of them are damaged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.damaged: list[str] = []

    def read(self, name: str, load: Callable[[], Found | None]) -> Found | None:
        try:
            return load()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.damaged.append(str(error) if name in str(error) else f"{name} cannot be read: {error}")
            return None

    def read_dict(self, name: str) -> dict:
        return self.read(name, lambda: read_dict(self.folder / name)) or {}


def is_run_held(folder: Path) -> bool:
    """Whether a process trains into the folder: it holds the lock."""
    lock = folder / LOCK_FILE
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that belongs to somebody else, and can only be read
        return False


def _log(lines: Any) -> list[dict]:
    """The lines of a log, each of which has its step; of anything else, none."""
    is_log = isinstance(lines, list) and all(
        isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines
    )
    return lines if is_log else []


def last_step(log: list[dict]) -> int:
    """The step of the last line; 0 where there is none."""
    return log[-1]["step"] if log else 0
