"""An evaluation as a picture: each figure a dot in its 95% interval, the models of a comparison in colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.evaluation.tasks.lm_eval_tasks import SHARES
from train.run_files import EVALUATION_PICTURE_FILE


COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
PICTURE_INCHES = 9.0  # wide
INCHES_PER_DOT = 0.22
INCHES_PER_PANEL = 1.2  # for title, axis and its name

Points = dict[str, tuple[float, Sequence[float] | None]]  # value and interval by name


@dataclass(frozen=True)
class Panel:
    """
    Args:
        series: the points of each model by the model's name; the first has the names that are shown.
        marks: further values by the same names, which are no model's of this evaluation, and what they are.
    """

    title: str
    unit: str
    series: dict[str, Points]
    marks: dict[str, float]
    marks_name: str

    @property
    def inches(self) -> float:
        dots = len(next(iter(self.series.values()))) * (len(self.series) + 0.6)
        return dots * INCHES_PER_DOT + INCHES_PER_PANEL


def draw_evaluation(folder: Path, evaluation: dict) -> Path | None:
    """Draw `evaluation.png` into a folder; returns the file, or `None` where there is nothing to draw."""
    from matplotlib.figure import Figure  # heavy, and wanted at the end only

    panels = _panels(evaluation)
    if not panels:
        return None
    heights = [panel.inches for panel in panels]
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
        points = {name: _loss_points(model["validation"]) for name, model in models.items() if "validation" in model}
        panels.append(Panel("validation loss", "nats per token", points, {}, ""))
    if "exam" in evaluation:
        points = {name: _exam_points(model["exam"]) for name, model in models.items() if "exam" in model}
        chance = {marks["exercise"]: marks["chance"] for marks in _marks(evaluation["exam"])}
        panels.append(Panel("exact match in the exam", "share of the answers", points, chance, "chance"))
    shares = _shares(evaluation.get("tasks", []))
    if shares:
        points = {name: _task_points(model["tasks"]) for name, model in models.items() if "tasks" in model}
        published = {
            _task_name(figure): figure["gpt2_small"][0]["value"]
            for figure in shares
            if figure["gpt2_small"] and figure["gpt2_small"][0]["shots"] == figure["shots"]
        }
        panels.append(Panel("lm-eval tasks", "share of the questions", points, published, "GPT-2 small, published"))
    return panels


def _loss_points(validation: dict) -> Points:
    overall = validation["overall"]
    points: Points = {
        "all": (overall["loss"], overall["loss_interval"]),
        "all, answers only": (overall["answer_loss"], overall["answer_loss_interval"]),
    }
    for kind in ("exercise", "language"):
        groups = validation[f"by_{kind}"]
        if len(groups) > 1:
            points |= {
                f"{name} ({figures['rows']:,})": (figures["loss"], figures["loss_interval"])
                for name, figures in groups.items()
            }
    return points


def _marks(exam: dict) -> list[dict]:
    return [exam["overall"], *(exam["by_exercise"] if len(exam["by_exercise"]) > 1 else [])]


def _exam_points(exam: dict) -> Points:
    return {marks["exercise"]: (marks["exact_match"], marks["exact_match_interval"]) for marks in _marks(exam)}


def _task_points(tasks: list[dict]) -> Points:
    return {_task_name(figure): (figure["value"], figure["interval"]) for figure in _shares(tasks)}


def _shares(tasks: list[dict]) -> list[dict]:
    """Those that lie between 0 and 1; of a group's tasks only the group."""
    return [figure for figure in tasks if figure["metric"] in SHARES and not figure["part_of_group"]]


def _task_name(figure: dict) -> str:
    return f"{figure['task']} {figure['metric']}"


def _draw_panel(axes: Any, panel: Panel) -> None:
    names = list(next(iter(panel.series.values())))
    step = 1 / (len(panel.series) + 0.6)
    for number, (model, points) in enumerate(panel.series.items()):
        shift = (number - (len(panel.series) - 1) / 2) * step
        places = [place + shift for place, name in enumerate(names) if name in points]
        shown = [points[name] for name in names if name in points]
        errors = [
            [value - (interval or (value, value))[0] for value, interval in shown],
            [(interval or (value, value))[1] - value for value, interval in shown],
        ]
        axes.errorbar(
            *([value for value, _ in shown], places),
            xerr=[[max(error, 0.0) for error in side] for side in errors],
            fmt="o",
            markersize=4,
            capsize=2,
            linewidth=1.2,
            color=COLOURS[number % len(COLOURS)],
            label=model,
        )
        if len(panel.series) == 1:
            for (value, _), place in zip(shown, places, strict=True):
                text = f"{value:.3f}" if "nats" in panel.unit else f"{value:.1%}"
                axes.annotate(text, (value, place), textcoords="offset points", xytext=(0, 4), ha="center", fontsize=7)
    if panel.marks:
        places = [place for place, name in enumerate(names) if name in panel.marks]
        values = [panel.marks[name] for name in names if name in panel.marks]
        axes.plot(values, places, "|", color="0.35", markersize=11, markeredgewidth=1.5, label=panel.marks_name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(panel.unit)
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="best")
