"""An evaluation as a picture: each figure a dot in its 95% interval, the models of a comparison in colours."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from train.evaluation.result_rows import loss_groups, shown_marks
from train.evaluation.tasks.lm_eval_tasks import SHARES
from train.run_files import EVALUATION_PICTURE_FILE


PICTURE_INCHES = 9.0  # wide
INCHES_PER_DOT = 0.22
INCHES_PER_PANEL = 1.2  # for title, axis and its name

Points = dict[str, tuple[float, Sequence[float] | None]]  # value and interval by name


@dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    form: str  # of a value as text
    series: dict[str, Points]  # by the model's name; the first has the names that are shown
    marks: dict[str, float] = field(default_factory=dict)  # further values by the same names, of no model here
    marks_name: str = ""

    @property
    def names(self) -> list[str]:
        return list(next(iter(self.series.values())))


def draw_evaluation(folder: Path, evaluation: dict) -> Path | None:
    """Draw `evaluation.png` into a folder; returns the file, or `None` where there is nothing to draw."""
    from matplotlib.figure import Figure  # heavy, and wanted at the end only

    panels = _panels(evaluation)
    if not panels:
        return None
    heights = [len(panel.names) * (len(panel.series) + 0.6) * INCHES_PER_DOT + INCHES_PER_PANEL for panel in panels]
    figure = Figure(figsize=(PICTURE_INCHES, sum(heights)), layout="constrained")
    for row, panel in zip(figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights), panels, strict=True):
        _draw_panel(row[0], panel)
    file = folder / EVALUATION_PICTURE_FILE
    figure.savefig(file, dpi=120)
    return file


def _panels(evaluation: dict) -> list[Panel]:
    models: dict[str, dict] = {}
    for model in [evaluation, *evaluation.get("comparisons", [])]:
        name = model["model"]["name"]
        models[name if name not in models else f"{name} ({len(models) + 1})"] = model
    panels = []
    if "validation" in evaluation:
        losses = {name: _loss_points(model["validation"]) for name, model in models.items() if "validation" in model}
        panels.append(Panel("validation loss", "nats per token", ".3f", losses))
    if "exam" in evaluation:
        marks = {name: _exam_points(model["exam"]) for name, model in models.items() if "exam" in model}
        chance = {mark["exercise"]: mark["chance"] for mark in shown_marks(evaluation["exam"])}
        panels.append(Panel("exact match in the exam", "share of the answers", ".1%", marks, chance, "chance"))
    tasks = {name: _task_points(model["tasks"]) for name, model in models.items() if "tasks" in model}
    if any(tasks.get(evaluation["model"]["name"], {})):
        published = {
            f"{task['task']} {task['metric']}": task["gpt2_small"][0]["value"]
            for task in evaluation["tasks"]
            if task["gpt2_small"] and task["gpt2_small"][0]["shots"] == task["shots"]
        }
        label = "GPT-2 small, published"
        panels.append(Panel("lm-eval tasks", "share of the questions", ".1%", tasks, published, label))
    return panels


def _loss_points(validation: dict) -> Points:
    overall = validation["overall"]
    points = {f"{name} ({one['rows']:,})": (one["loss"], one["loss_interval"]) for name, one in loss_groups(validation)}
    answers = {"all, answers only": (overall["answer_loss"], overall["answer_loss_interval"])}
    return points if overall["answer_loss"] is None else points | answers


def _exam_points(exam: dict) -> Points:
    return {mark["exercise"]: (mark["exact_match"], mark["exact_match_interval"]) for mark in shown_marks(exam)}


def _task_points(tasks: list[dict]) -> Points:
    """The values that lie between 0 and 1; of a group's tasks only the group."""
    return {
        f"{task['task']} {task['metric']}": (task["value"], task["interval"])
        for task in tasks
        if task["metric"] in SHARES and not task["part_of_group"]
    }


def _draw_panel(axes: Any, panel: Panel) -> None:
    rows = {name: row for row, name in enumerate(panel.names)}
    for number, (model, points) in enumerate(panel.series.items()):
        shift = (number - (len(panel.series) - 1) / 2) / (len(panel.series) + 0.6)
        shown = {rows[name] + shift: point for name, point in points.items() if name in rows}
        places, values = list(shown), np.array([value for value, _ in shown.values()])
        errors = np.abs(np.array([interval or (value, value) for value, interval in shown.values()]).T - values)
        axes.errorbar(values, places, xerr=errors, fmt="o", markersize=4, capsize=2, linewidth=1.2, label=model)
        if len(panel.series) == 1:
            for value, place in zip(values, places, strict=True):
                text = f"{value:{panel.form}}"
                axes.annotate(text, (value, place), textcoords="offset points", xytext=(0, 4), ha="center", fontsize=7)
    if marks := [(value, rows[name]) for name, value in panel.marks.items() if name in rows]:
        style = {"color": "0.35", "markersize": 11, "markeredgewidth": 1.5}
        axes.plot(*zip(*marks, strict=True), "|", label=panel.marks_name, **style)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(xlabel=panel.unit, ylim=(len(rows) - 0.4, -0.6))
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="best")
