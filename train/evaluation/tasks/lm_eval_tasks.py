"""Tasks of lm-evaluation-harness by name: HellaSwag, ARC, PIQA, LAMBADA, WikiText, MMLU, or YAML files of one's own."""

import copy
import difflib
import itertools
import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from train.evaluation.losses.loss_figures import LARGEST_EXPONENT
from train.evaluation.opened_model import OpenedModel
from train.evaluation.statistics import Interval, mean_per_unit
from train.evaluation.tasks.core import CORE, run_core
from train.evaluation.tasks.published_gpt2 import published_figures


logger = logging.getLogger(__name__)

# For the standard errors of perplexities, which have no formula; the harness's own 100,000 take minutes.
BOOTSTRAP_SAMPLES = 1000
HALF_INTERVAL_ERRORS = 1.959964  # the normal distribution's two-sided 95% point
SHARES = ("acc", "acc_norm", "exact_match")  # metrics that lie between 0 and 1
# Without standard errors in the harness: these functions of the mean nats per unit (word or byte) of all documents
OF_MEAN_NATS: dict[str, Callable[[float], float]] = {
    "word_perplexity": math.exp,
    "byte_perplexity": math.exp,
    "bits_per_byte": lambda nats: nats / math.log(2),
}


TaskMarks = dict[tuple[str, str], list[bool]]  # by task and metric: whether each document is answered rightly


def find_tasks(names: list[str], folder: str | None) -> Any:
    """The harness's task manager, which knows all names, before any model is loaded; with further task files of
    `folder`, in the harness's YAML form. A `ValueError` where lm-eval is not installed, or has no such task, or several
    processes run."""
    if PartialState().num_processes > 1:
        raise ValueError(
            "--tasks runs in one process: leave out the launcher, or take `accelerate launch -m lm_eval run` for tasks."
        )
    # Read at each bootstrap: pools of processes cost more than so few samples.
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError("--tasks needs lm-evaluation-harness: pip install -c constraints.txt -e .[lm_eval]") from error
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"--task_folder {folder}: there is no such folder.")
    manager = TaskManager(include_path=folder and str(folder))
    for name in names:
        if name != CORE and name not in manager.task_index:
            nearest = difflib.get_close_matches(name, manager.all_tasks, n=3, cutoff=0.5)
            hint = f" Nearest: {', '.join(nearest)}." if nearest else " `lm_eval ls tasks` lists all."
            raise ValueError(f"--tasks {name}: lm-eval has no such task.{hint}")
    return manager


def run_tasks(
    opened: OpenedModel, *, names: list[str], batch_size: int = 8, **options: Any
) -> tuple[list[dict], TaskMarks]:
    """Run tasks, groups or tags, as `lm_eval run --model hf` would; the options are those of `simple_evaluate`. A
    `ValueError` where documents cannot be had.

    `core` among the names stands for CORE, whose tasks have shots of their own.

    Returns `tasks` of evaluation.json; and the marks, of the metrics that mark single documents as right or wrong.
    """
    if CORE in names:
        one = partial(run_tasks, opened, batch_size=batch_size)
        figure, core_marks = run_core(partial(one, **options), options["task_manager"].task_index)
        others = [name for name in names if name != CORE]
        figures, marks = one(names=others, **options) if others else ([], {})
        return [figure, *figures], {**core_marks, **marks}
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # A copy: the harness gives the tokenizer a padding token.
    model = HFLM(pretrained=opened.model, tokenizer=copy.deepcopy(opened.tokenizer), batch_size=batch_size)
    try:
        results = simple_evaluate(model, tasks=list(names), bootstrap_iters=BOOTSTRAP_SAMPLES, **options)
    except (ImportError, OSError, RuntimeError) as error:  # of a task that was written for other versions, too
        if isinstance(error, RuntimeError) and "Dataset scripts" not in str(error):
            raise
        raise ValueError(f"--tasks {' '.join(names)}: the documents cannot be had: {error}") from error
    return _figures(results), _marks(results)


def _figures(results: Any) -> list[dict]:
    figures = []
    parts = set(itertools.chain(*results["group_subtasks"].values()))
    for task, measured in {**results["results"], **results.get("groups", {})}.items():
        for key, value in measured.items():
            metric, comma, filter_name = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                logger.warning("%s %s is %s, and is left out.", task, metric, value)
                continue
            error = measured.get(f"{metric}_stderr,{filter_name}")
            error = error if isinstance(error, int | float) and math.isfinite(error) else None
            figures.append(
                {
                    "task": task,
                    "metric": metric,
                    "filter": filter_name,
                    "part_of_group": task in parts,
                    "value": float(value),
                    "stderr": error,
                    "interval": _interval(metric, float(value), error, results["samples"].get(task, [])),
                    "samples": results["n-samples"].get(task, {}).get("effective", measured.get("sample_len")),
                    "shots": results["n-shot"].get(task),
                    "gpt2_small": published_figures(task, metric),
                }
            )
    return figures


def _interval(metric: str, value: float, error: float | None, samples: list[dict]) -> Interval | None:
    """From the standard error; that of losses of texts as that of the validation loss, over documents."""
    if metric in OF_MEAN_NATS and samples:
        log_likelihoods, units = zip(*(sample[metric] for sample in samples), strict=True)
        _, ends = mean_per_unit([-one for one in log_likelihoods], units)
        if ends is None or ends[1] > LARGEST_EXPONENT:
            return None
        return OF_MEAN_NATS[metric](ends[0]), OF_MEAN_NATS[metric](ends[1])
    if error is None:
        return None
    low, high = value - HALF_INTERVAL_ERRORS * error, value + HALF_INTERVAL_ERRORS * error
    return (max(low, 0.0), min(high, 1.0)) if metric in SHARES else (low, high)


def _marks(results: Any) -> TaskMarks:
    """In the order of documents, for the metrics whose values are 0 or 1."""
    found = defaultdict(list)
    for task, samples in results["samples"].items():
        for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
            for metric in sample["metrics"]:
                name = metric if sample["filter"] == "none" else f"{metric} ({sample['filter']})"
                found[task, name].append(sample[metric])
    return {
        name: [bool(value) for value in values]
        for name, values in found.items()
        if all(isinstance(value, int | float) and value in (0, 1) for value in values)
    }
