"""The last files of a run: its results as JSON, and its loss curve as a picture."""

import json
from pathlib import Path

from train.provenance import describe_hardware, describe_versions, git_commit
from train.run_files import CURVE_FILE, RESULTS_FILE, write_whole


def write_results(folder: Path, results: dict) -> None:
    """Write `results.json`: the given figures, and the code, versions and hardware that they were made with."""
    made_with = {"versions": describe_versions(), "git_commit": git_commit(), "hardware": describe_hardware()}
    write_whole(folder / RESULTS_FILE, json.dumps({**results, **made_with}, indent=2, ensure_ascii=False) + "\n")


def draw_loss_curve(folder: Path, log_history: list[dict]) -> None:
    """Draw `loss_curve.png` from the Trainer's log: training and validation loss over tokens, in nats per token."""
    from matplotlib.figure import Figure  # here, as only the end of a run needs it

    logged = [entry for entry in log_history if "tokens_seen" in entry]
    tokens_per_step = max((entry["tokens_seen"] / entry["step"] for entry in logged if entry["step"]), default=0)
    training = [(entry["tokens_seen"], entry["loss"]) for entry in logged]
    validation = [
        (entry["step"] * tokens_per_step, entry["eval_loss"]) for entry in log_history if "eval_loss" in entry
    ]
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
