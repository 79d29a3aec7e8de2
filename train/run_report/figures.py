"""The numbers of a run: how far it is, its latest figures, and the points of its charts."""

import math
from statistics import median

from train.callbacks.progress import show_seconds
from train.evaluation.result_rows import NOT_RECORDED
from train.run_report.run_record import RunRecord


# Label, name in the log, form, unit, remark.
TILES = (
    ("training loss", "loss", ".4f", "", "nats per token"),
    ("validation loss", "eval_loss", ".4f", "", "best {best:.4f}"),
    ("validation perplexity", "eval_perplexity", ",.2f", "", ""),
    ("tokens per second", "tokens_per_second", ",.0f", "", "median {median:,.0f}"),
    ("MFU", "mfu", ".1%", "", "of the peak FLOP/s"),
    ("memory", "memory_gib", ".2f", " GiB", "peak of a process"),
    ("data wait", "data_wait", ".1%", "", "of the time"),
)


def describe_progress(run: RunRecord) -> dict[str, str]:
    """How far the run is, as far as it is recorded."""
    total, per_step = run.total_steps, tokens_per_step(run.log)
    tokens = NOT_RECORDED
    if per_step is not None:
        tokens = f"{run.step * per_step:,.0f}" + (f" of {total * per_step:,.0f}" if total else "")
    latest = {name: value for line in run.log for name, value in line.items()}
    elapsed = latest.get("elapsed_seconds") or run.results.get("training", {}).get("train_runtime")
    left = 0 if run.step == total else latest.get("eta_seconds")
    return {
        "steps": f"{run.step:,}" + (f" of {total:,}" if total else ""),
        "tokens": tokens,
        "elapsed": NOT_RECORDED if elapsed is None else show_seconds(elapsed),
        "to go": NOT_RECORDED if left is None else show_seconds(left),
    }


def tokens_per_step(log: list[dict]) -> float | None:
    """Tokens that an optimizer step sees; `None` for a log without tokens."""
    return max((line["tokens_seen"] / line["step"] for line in log if line.get("tokens_seen")), default=None)


def make_tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """The latest figures: label, value and remark."""
    tiles = []
    for label, name, form, unit, remark in TILES:
        values = logged_values(run.log, name)
        value = f"{values[-1]:{form}}{unit}" if values else NOT_RECORDED
        tiles.append((label, value, remark.format(best=min(values), median=median(values)) if values else ""))
    return tiles


def make_charts(run: RunRecord) -> dict:
    """The charts for the page's script, over tokens, or over steps where the log has no tokens.

    `form` is in the notation of d3-format. A point without a value is a gap, and a chart without points has no line.
    """
    scale = tokens_per_step(run.log) or 1

    def line(key: str, name: str = "", marks: bool = False, factor: float = 1.0) -> list[dict]:
        entries = [entry for entry in run.log if key in entry and entry["step"] > 0]
        values = [_number(entry, key) for entry in entries]
        if all(value is None for value in values):
            return []
        steps = [entry["step"] for entry in entries]
        y = [None if value is None else value * factor for value in values]
        return [{"name": name, "x": [step * scale for step in steps], "y": y, "steps": steps, "marks": marks}]

    def chart(name: str, title: str, form: str, lines: list[dict], **more: object) -> dict:
        return {"name": name, "title": title, "form": form, "lines": lines, "unit": "", "level": None, **more}

    rates = [one for name, factor in _rate_factors(run).items() for one in line("learning_rate", name, factor=factor)]
    limit = run.recipe.get("max_grad_norm")
    level = (limit, "clipped above") if limit else None
    charts = [
        chart("loss", "Loss (nats per token)", ".4f", line("loss", "training") + line("eval_loss", "validation", True)),
        chart("rate", "Learning rate", ".3~g", rates),
        chart("norm", "Gradient norm", ".4g", line("grad_norm"), level=level, log_y=True),
        chart("speed", "Tokens per second", ",.0f", line("tokens_per_second")),
        chart("mfu", "Model FLOPs utilisation (MFU)", ".1%", line("mfu")),
        chart("memory", "Memory, peak (GiB)", ".2f", line("memory_gib"), unit=" GiB"),
        chart("wait", "Waiting for data, share of the time", ".2%", line("data_wait")),
    ]
    return {"over": "steps" if tokens_per_step(run.log) is None else "tokens seen", "charts": charts}


def _rate_factors(run: RunRecord) -> dict[str, float]:
    """The learning rates by name, as multiples of the one in the log, which is that of norms and biases."""
    names_by_factor: dict[float, list[str]] = {1.0: ["norms and biases"]}
    for name, setting in (("embeddings", "embedding_lr_scale"), ("blocks' matrices", "hidden_lr_scale")):
        names_by_factor.setdefault(run.recipe.get(setting, 1.0), []).append(name)
    if len(names_by_factor) == 1:
        return {"": 1.0}
    return {" and ".join(names): factor for factor, names in names_by_factor.items()}


def logged_values(log: list[dict], name: str) -> list[float]:
    """The finite values of a figure in a log."""
    return [value for line in log if (value := _number(line, name)) is not None]


def _number(line: dict, name: str) -> float | None:
    value = line.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
