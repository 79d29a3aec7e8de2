"""Reads the card's figures from a run folder; a figure that is not there is never made up."""

import logging
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from train.evaluation.record import fits_weights, is_of_others, read_evaluation
from train.run_files import (
    CONFIG_FILE,
    CURVE_FILE,
    EVALUATION_FILE,
    EVALUATION_PICTURE_FILE,
    RECIPE_FILE,
    RESULTS_FILE,
    TRAINER_STATE_FILE,
    read_codecarbon,
    read_dict,
    read_samples,
)


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """What the files of a run say, each dict by its file; a figure that was not logged is `None`."""

    name: str  # of the run folder
    results: dict
    recipe: dict
    config: dict
    samples: list[dict]  # the texts of the last step that wrote some, each with its question
    tokens_per_second: float | None  # the median of those logged in training
    training_seconds: float | None  # over all starts of the run
    energy_kwh: float | None  # by codecarbon
    co2_kg: float | None  # equivalent, by codecarbon
    evaluation: dict  # empty where there is none, or it is of other weights
    has_curve: bool  # there is a picture of the loss
    has_picture: bool  # and of the evaluation

    def figure(self, *keys: str) -> float | None:
        """A number in the results, by the keys that lead to it; `None` where it is missing or not finite."""
        value: Any = self.results
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and math.isfinite(value) else None

    @property
    def data(self) -> dict:
        return self.results.get("data", {})

    @property
    def method(self) -> str | None:
        """Of a post-training; `None` for a pre-training."""
        return self.recipe.get("method")

    @property
    def datasets(self) -> list[dict]:
        """What is recorded of each dataset, and its `name` to show; one on the Hub has a `dataset_revision`."""
        return [{**data, "name": _name_to_show(data)} for data in self.data.get("datasets") or [self.data]]

    @property
    def hub_datasets(self) -> list[str]:
        """The ids of the datasets on the Hub; local files and the embedded sample have no commit."""
        return list(dict.fromkeys(data["name"] for data in self.datasets if data.get("dataset_revision")))

    @property
    def dataset_name(self) -> str | None:
        """All of them, to show."""
        return ", ".join(data["name"] for data in self.datasets if data["name"]) or None

    @property
    def validation_source(self) -> dict:
        """`name`, `revision` and `split` of the validation rows: of a set that was named apart, or of the dataset."""
        apart = self.data.get("validation_set")
        apart = apart if isinstance(apart, dict) else None
        source = apart or self.data
        split = source.get("dataset_split") if apart else "validation"
        return {
            "name": _name_to_show(source) if apart else self.dataset_name,
            "revision": source.get("dataset_revision"),
            "split": split,
        }

    @property
    def trains_on_texts(self) -> bool:
        """Whether the rows are texts, and no questions with answers."""
        return self.data.get("schema") == "text"

    @property
    def languages(self) -> list[str]:
        """Codes of the languages of the rows that were used, most rows first."""
        rows = sum((Counter(data.get("rows_by_language", {})) for data in self.datasets), Counter())
        codes = [name for name in rows if re.fullmatch("[a-z]{2,3}", name) and rows[name]]
        return sorted(codes, key=lambda code: (-rows[code], code))


def _name_to_show(source: dict) -> str | None:
    """Of a local file the last part only, since the rest of its path is private."""
    dataset = source.get("dataset")
    return dataset if source.get("dataset_revision") or not dataset else Path(dataset).name


def read_run(run: Path) -> RunRecord:
    """Read a finished run's folder; raises a ValueError where a file in it is damaged."""
    evaluation = read_evaluation(run) or {}
    if evaluation and not fits_weights(evaluation, run):
        logger.warning(
            "%s is of other weights than those in %s, and is left out: python -m train.evaluation %s makes a new one.",
            *(EVALUATION_FILE, run, run),
        )
        evaluation = {}
    try:
        state_file = run / TRAINER_STATE_FILE
        history = read_dict(state_file)["log_history"] if state_file.exists() else []
        elapsed, speeds = (
            [float(entry[name]) for entry in history if name in entry]
            for name in ("elapsed_seconds", "tokens_per_second")
        )
        samples, results = read_samples(run), read_dict(run / RESULTS_FILE)
        record = RunRecord(
            name=run.resolve().name,
            results=results,
            recipe=read_dict(run / RECIPE_FILE),
            config=read_dict(run / CONFIG_FILE),
            samples=[sample for sample in samples if sample["step"] == samples[-1]["step"]],
            tokens_per_second=median(speeds) if speeds else None,
            training_seconds=elapsed[-1] if elapsed else None,
            energy_kwh=read_codecarbon(run, "energy_consumed"),
            co2_kg=read_codecarbon(run, "emissions"),
            evaluation=evaluation,
            has_curve=(run / CURVE_FILE).is_file(),
            has_picture=bool(evaluation) and (run / EVALUATION_PICTURE_FILE).is_file(),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"A file in {run} is damaged ({error}): copy the run again, or let it end again.") from error
    if results.get("weights_sha256") is None:
        logger.warning("%s/%s, of an earlier version, does not tell the weights that it is of.", run, RESULTS_FILE)
    if is_of_others(results, run):
        raise ValueError(
            f"The weights in {run} are damaged, or others than those of its {RESULTS_FILE}, so the card would show "
            "figures of another model: copy the whole run again, or train it again."
        )
    return record


def is_local_path(text: str) -> bool:
    """Whether it is an absolute path, which may name a person or a machine."""
    return text.startswith(("/", "~/"))
