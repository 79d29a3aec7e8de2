"""The last files of a run: its results as JSON, and its loss curve as a picture."""

import json
from itertools import pairwise
from pathlib import Path

from train.evaluation.record import hash_weights
from train.provenance import describe_hardware, describe_versions, git_commit
from train.run_files import CURVE_FILE, RESULTS_FILE, write_whole
from train.run_report.figures import tokens_per_step


def write_results(folder: Path, results: dict) -> None:
    """Write `results.json`: the given figures, their weights, and the code, versions and hardware that made them."""
    made_with = {"versions": describe_versions(), "git_commit": git_commit(), "hardware": describe_hardware()}
    results = {**results, "weights_sha256": hash_weights(folder.glob("*.safetensors"))}
    write_whole(folder / RESULTS_FILE, json.dumps({**results, **made_with}, indent=2, ensure_ascii=False) + "\n")


def training_figures(metrics: dict, log_history: list[dict], is_resumed: bool) -> dict:
    """The Trainer's figures; where a run was resumed, loss and time are of all its starts, as far as these logged."""
    losses = {0: 0.0} | {line["step"]: line["loss"] for line in log_history if "loss" in line}
    if not is_resumed or len(losses) == 1:
        return metrics
    total = sum((step - before) * losses[step] for before, step in pairwise(losses))
    seconds = max((line.get("elapsed_seconds", 0.0) for line in log_history), default=0.0)
    kept = {name: value for name, value in metrics.items() if not name.endswith("_per_second")}  # of the last start
    return {**kept, "train_runtime": seconds, "train_loss": total / max(losses)}


def draw_loss_curve(folder: Path, log_history: list[dict]) -> None:
    """Draw `loss_curve.png` from the Trainer's log: training and validation loss over tokens, in nats per token."""
    from matplotlib.figure import Figure  # here, as only the end of a run needs it

    scale = tokens_per_step(log_history) or 0
    training = [(entry["tokens_seen"], entry["loss"]) for entry in log_history if "tokens_seen" in entry]
    validation = [(entry["step"] * scale, entry["eval_loss"]) for entry in log_history if "eval_loss" in entry]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if training:
        axes.plot(*zip(*training, strict=True), color="tab:blue", linewidth=1, alpha=0.8, label="training")
    if validation:
        axes.plot(*zip(*validation, strict=True), color="tab:orange", marker="o", markersize=4, label="validation")
        text, place = f"{validation[-1][1]:.3f}", validation[-1]
        axes.annotate(text, place, textcoords="offset points", xytext=(0, 6), ha="right")
    axes.set(xlabel="tokens seen", ylabel="loss (nats per token)", title=folder.name)
    axes.grid(alpha=0.3)
    if training or validation:
        axes.legend()
    figure.savefig(folder / CURVE_FILE, dpi=120)
