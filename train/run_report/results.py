"""What a finished run leaves to look at: its results as JSON, its loss curve as a picture."""

import json
import os
import platform
import subprocess
from functools import partial
from pathlib import Path

import torch
import transformers

from train.hardware import available_cores
from train.run_files import CURVE_FILE, RESULTS_FILE


def write_results(folder: Path, results: dict) -> None:
    """Write `results.json`: the given figures, and the code, versions and hardware that they were made with."""
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    text = json.dumps(
        {**results, "versions": versions, "git_commit": git_commit(), "hardware": describe_hardware()},
        indent=2,
        ensure_ascii=False,
    )
    (folder / RESULTS_FILE).write_text(text + "\n", encoding="utf-8")


def git_commit() -> str | None:
    """The commit of this code, where it is a git checkout with nothing changed; else `None`."""
    repository = Path(__file__).parent
    try:
        run = partial(subprocess.run, cwd=repository, capture_output=True, text=True, check=True)
        run(["git", "ls-files", "--error-unmatch", Path(__file__).name])  # else the checkout around us is another's
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
        return None if changed else run(["git", "rev-parse", "HEAD"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_hardware() -> dict:
    """What was trained on: the kind and number of its devices, and the power that each may draw, where that is known.

    `watts_per_device` is a GPU's power limit, as its driver says; of processors only Linux with RAPL tells.
    """
    if torch.cuda.is_available():
        devices = int(os.environ.get("WORLD_SIZE", "1"))
        return {"device": torch.cuda.get_device_name(), "devices": devices, "watts_per_device": _gpu_watts()}
    device = f"CPU ({platform.machine()}), {available_cores()} cores"
    return {"device": device, "devices": 1, "watts_per_device": _cpu_watts()}


def _gpu_watts() -> float | None:
    command = ["nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def _cpu_watts() -> float | None:
    """The sustained power limit of all processor packages together."""
    limits = list(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/constraint_0_power_limit_uw"))
    try:
        return sum(int(limit.read_text()) for limit in limits) / 1e6 or None
    except (OSError, ValueError):
        return None


def draw_loss_curve(folder: Path, log_history: list[dict]) -> None:
    """Draw `loss_curve.png` from the Trainer's log: training and validation loss over tokens, in nats per token."""
    # Drawing is the last thing a run does; imported here, it costs the start nothing.
    from matplotlib.figure import Figure

    training = [(entry["tokens_seen"], entry["loss"]) for entry in log_history if "tokens_seen" in entry]
    tokens_at_step = {entry["step"]: entry["tokens_seen"] for entry in log_history if "tokens_seen" in entry}
    tokens_per_step = max((tokens / step for step, tokens in tokens_at_step.items() if step), default=0)
    validation = [
        (entry["step"] * tokens_per_step, entry["eval_loss"]) for entry in log_history if "eval_loss" in entry
    ]

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if training:
        axes.plot(*zip(*training, strict=True), color="tab:blue", linewidth=1, alpha=0.8, label="training")
    if validation:
        axes.plot(*zip(*validation, strict=True), color="tab:orange", marker="o", markersize=4, label="held out")
        last_tokens, last_loss = validation[-1]
        axes.annotate(
            f"{last_loss:.3f}", (last_tokens, last_loss), textcoords="offset points", xytext=(0, 6), ha="right"
        )
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("loss (nats per token)")
    axes.set_title(folder.name)
    axes.grid(alpha=0.3)
    if training or validation:
        axes.legend()
    figure.savefig(folder / CURVE_FILE, dpi=120)
