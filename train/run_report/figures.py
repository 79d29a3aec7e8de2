"""The numbers of a run: how far it is, its latest figures, and the points of its charts."""

import math
from dataclasses import asdict, dataclass, field
from statistics import median

from train.callbacks.progress import show_seconds
from train.run_report.run_record import RunFiles, last_step


NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class Tile:
    """One of the latest figures: its name, its value as text, and what to know beside it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Line:
    """
    Args:
        name: in the legend; empty where the chart has one line only.
        x, y: the points; a `y` of `None` is a gap.
        steps: the optimizer step of each point.
        marks: whether each point is marked.
    """

    name: str
    x: list[float]
    y: list[float | None]
    steps: list[int]
    marks: bool = False


@dataclass(frozen=True)
class Chart:
    """
    Args:
        form: of the values, in the notation of d3-format.
        unit: after a value.
        level: a value to mark, with its name.
        log_y: whether the y axis is logarithmic.
    """

    name: str
    title: str
    form: str
    unit: str = ""
    lines: list[Line] = field(default_factory=list)
    level: tuple[float, str] | None = None
    log_y: bool = False


@dataclass(frozen=True)
class Progress:
    """
    Args:
        share: of the steps, 0 to 1; `None` where their number is not recorded.
        steps, tokens, elapsed, left: as text.
    """

    share: float | None
    steps: str
    tokens: str
    elapsed: str
    left: str


def tokens_per_step(run: RunFiles) -> float | None:
    """Tokens that an optimizer step sees; `None` for a log without tokens."""
    return max((line["tokens_seen"] / line["step"] for line in run.log if line.get("tokens_seen")), default=None)


def describe_progress(run: RunFiles) -> Progress:
    step, total = max(last_step(run.log), run.record.get("step", 0)), run.total_steps
    per_step = tokens_per_step(run)
    share = min(step / total, 1.0) if total else None
    tokens = NOT_RECORDED
    if per_step is not None:
        tokens = f"{step * per_step:,.0f}" + (f" of {total * per_step:,.0f}" if total else "")
    elapsed = latest(run, "elapsed_seconds") or run.results.get("training", {}).get("train_runtime")
    eta = latest(run, "eta_seconds")
    return Progress(
        share=share,
        steps=f"{step:,}" + (f" of {total:,}" if total else ""),
        tokens=tokens,
        elapsed=NOT_RECORDED if elapsed is None else show_seconds(elapsed),
        left="none" if share == 1.0 else NOT_RECORDED if eta is None else show_seconds(eta),
    )


def latest(run: RunFiles, name: str) -> float | None:
    """The newest finite value of a figure in the log; `None` where there is none."""
    return next((value for line in reversed(run.log) if (value := _number(line, name)) is not None), None)


def make_tiles(run: RunFiles) -> list[Tile]:
    """The latest figures; those that the log lacks are said to be missing."""
    validation = [value for line in run.log if (value := _number(line, "eval_loss")) is not None]
    speeds = [value for line in run.log if (value := _number(line, "tokens_per_second")) is not None]

    def tile(label: str, name: str, form: str, unit: str = "", detail: str = "") -> Tile:
        value = latest(run, name)
        return Tile(label, NOT_RECORDED) if value is None else Tile(label, f"{value:{form}}{unit}", detail)

    return [
        tile("training loss", "loss", ".4f", detail="nats per token"),
        tile("validation loss", "eval_loss", ".4f", detail=f"best {min(validation):.4f}" if validation else ""),
        tile("held-out perplexity", "eval_perplexity", ",.2f"),
        tile(
            "tokens per second", "tokens_per_second", ",.0f", detail=f"median {median(speeds):,.0f}" if speeds else ""
        ),
        tile("MFU", "mfu", ".1%", detail="of the peak FLOP/s"),
        tile("memory", "memory_gib", ".2f", " GiB", "peak of a process"),
        tile("data wait", "data_wait", ".1%", detail="of the time"),
    ]


def make_charts(run: RunFiles) -> list[Chart]:
    """The charts, over tokens, or over steps where the log has no tokens; those without a point are empty."""
    scale = tokens_per_step(run) or 1

    def line(key: str, name: str = "", marks: bool = False, factor: float = 1.0) -> list[Line]:
        entries = [entry for entry in run.log if key in entry and entry["step"] > 0]
        values = [_number(entry, key) for entry in entries]
        if all(value is None for value in values):
            return []
        steps = [entry["step"] for entry in entries]
        scaled = [None if value is None else value * factor for value in values]
        return [Line(name, [step * scale for step in steps], scaled, steps, marks)]

    # The log has the rate of norms and biases, of which those of the other weights are multiples.
    names_by_scale: dict[float, list[str]] = {1.0: ["norms and biases"]}
    for name, setting in (("embeddings", "embedding_lr_scale"), ("blocks' matrices", "hidden_lr_scale")):
        names_by_scale.setdefault(run.recipe.get(setting, 1.0), []).append(name)
    rates = [
        found
        for factor, names in names_by_scale.items()
        for found in line("learning_rate", " and ".join(names) if len(names_by_scale) > 1 else "", factor=factor)
    ]
    limit = run.recipe.get("max_grad_norm")
    return [
        Chart(
            "loss", "Loss (nats per token)", ".4f", "", line("loss", "training") + line("eval_loss", "held out", True)
        ),
        Chart("rate", "Learning rate", ".3~g", "", rates),
        Chart("norm", "Gradient norm", ".4g", "", line("grad_norm"), (limit, "clipped above") if limit else None, True),
        Chart("speed", "Tokens a second", ",.0f", "", line("tokens_per_second")),
        Chart("mfu", "Model FLOPs utilisation (MFU)", ".1%", "", line("mfu")),
        Chart("memory", "Memory, peak (GiB)", ".2f", " GiB", line("memory_gib")),
        Chart("wait", "Waiting for data, share of the time", ".2%", "", line("data_wait")),
    ]


def charts_as_data(run: RunFiles) -> dict:
    """The charts for the page's script."""
    return {
        "over": "tokens seen" if tokens_per_step(run) else "steps",
        "charts": [asdict(chart) for chart in make_charts(run)],
    }


def _number(line: dict, name: str) -> float | None:
    value = line.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
