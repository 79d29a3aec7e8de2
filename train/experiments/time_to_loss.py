"""Measure how long the shipped recipe takes to the loss that a tuned AdamW ends with (see train/experiments/README.md).

    python -m train.experiments.time_to_loss --dataset FOLDER_OF_ROWS
    python -m train.experiments.time_to_loss --dataset FOLDER_OF_ROWS --widths 128 256 384 --seeds 1 --jobs 2

For each width and seed, both arms train `train/recipes/own_tokenizer.yaml` on one thread, from the same initial weights
and on the same text; the control with AdamW, at settings that were searched for, for half as many tokens more.
A tokenizer is trained first. Writes a table, `time_to_loss.json` and `time_to_loss.png` into `--output_dir`.
Started again, it goes on: runs that ended are not repeated.
"""

import json
import math
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from tabulate import tabulate
from tqdm.auto import tqdm

from train.experiments.child_run import finish_run, start_run
from train.hardware import has_bf16_units
from train.run_files import TRAINER_STATE_FILE, command_parser, filled, number, user_path
from train.settings.arguments import RECIPES_FOLDER


RECIPE = RECIPES_FOLDER / "own_tokenizer.yaml"
# Of the recipe, what the control has otherwise: from the search in train/experiments/optimizers.md.
CONTROL = {
    "optim_name": "adamw",
    "learning_rate": "1.25e-4",
    "embedding_lr_scale": "80",
    "warmup_steps": "0.15",
    "per_device_train_batch_size": "4",
    "max_steps": "2400",
}
ARMS: dict[str, dict[str, str]] = {"AdamW (control)": CONTROL, "shipped recipe (Muon)": {}}
COLORS = dict(zip(ARMS, ("tab:gray", "tab:blue"), strict=True))
HEAD_SIZE = 64
ARGUMENTS_FILE = "arguments.json"  # of a run that ended: what it was started with
POINTS = 12  # of a curve
FIRST_DRAWN = 0.1  # of a curve: the fall before it would hide the rest

Curve = list[tuple[float, float]]  # seconds of training steps, validation loss
Curves = dict[str, dict[str, Curve]]  # by arm and seed


def train_arm(arm: str, width: int, seed: int, data: list[str], run_folder: Path) -> Curve:
    """Train one arm in a child process, unless the run folder holds its end; `data` are words of its command line."""
    settings = {"config": str(RECIPE), "n_embd": str(width), "n_head": str(width // HEAD_SIZE), "seed": str(seed)}
    settings |= {"cpu_threads": "1", "eval_steps": str(1 / POINTS), "save_strategy": "no", "report_to": "none"}
    settings |= {"sample_tokens": "1", "bf16": str(bool(has_bf16_units()))} | ARMS[arm]
    argv = [*data, *(word for name, value in settings.items() for word in (f"--{name}", value))]
    ended = run_folder / ARGUMENTS_FILE
    if not ended.exists() or json.loads(ended.read_text()) != argv:
        shutil.rmtree(run_folder, ignore_errors=True)  # a run that was stopped, or had other settings
        finish_run(start_run(argv, run_folder), run_folder)
        ended.write_text(json.dumps(argv))
    return read_curve(json.loads((run_folder / TRAINER_STATE_FILE).read_text())["log_history"])


def read_curve(log_history: list[dict]) -> Curve:
    """The validation losses of a run's log, each after so many seconds of steps; evaluating takes none of them."""
    curve, seconds, tokens = [], 0.0, 0
    for entry in log_history:
        if "tokens_per_second" in entry:
            seconds += (entry["tokens_seen"] - tokens) / entry["tokens_per_second"]
        tokens = entry.get("tokens_seen", tokens)
        if "eval_loss" in entry:
            curve.append((seconds, entry["eval_loss"]))
    return curve


def seconds_to(loss: float, curve: Curve) -> float | None:
    """When a curve first comes down to a loss, on straight lines between its points; `None` if it never does."""
    for (start, before), (end, value) in pairwise([curve[0], *curve]):
        if value <= loss:
            return float(np.interp(-loss, [-before, -value], [start, end]))  # which wants rising values
    return None


def compare(width: int, curves: Curves) -> list[dict[str, Any]]:
    """For each seed, the control's last loss and its time, the recipe's time to that loss, and its own last loss."""
    control, recipe = (curves[arm] for arm in ARMS)
    rows = []
    for seed, curve in control.items():
        seconds, loss = curve[-1]
        reached = seconds_to(loss, recipe[seed])
        rows.append(
            {
                "width": width,
                "seed": seed,
                "control_loss": loss,
                "control_seconds": seconds,
                "recipe_seconds": reached,
                "ratio": None if reached is None else reached / seconds,
                "recipe_last_loss": recipe[seed][-1][1],
                "recipe_last_seconds": recipe[seed][-1][0],
            }
        )
    return rows


def mean_ratio(rows: list[dict[str, Any]]) -> str:
    """The mean of the ratios of a width, with its 95% interval by Student's t where there are several seeds."""
    ratios = [row["ratio"] if row["ratio"] is not None else math.inf for row in rows]
    mean = statistics.mean(ratios)
    if len(ratios) == 1 or math.isinf(mean):
        return "the loss was not reached by all seeds" if math.isinf(mean) else f"{mean:.2f} (one seed)"
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    low, high = scipy.stats.t.interval(0.95, len(ratios) - 1, loc=mean, scale=error) if error else (mean, mean)
    return f"{mean:.2f}, 95% interval {low:.2f} to {high:.2f} ({len(ratios)} seeds)"


def render(rows: list[dict[str, Any]]) -> str:
    """A table, its times in minutes, and the mean ratio of each width."""
    headers = (
        "width",
        "seed",
        "control's last loss",
        "minutes",
        "recipe there at",
        "ratio",
        "recipe's last",
        "minutes",
    )
    forms = ("", "", ".3f", ".1f", ".1f", ".2f", ".3f", ".1f")
    cells = [
        [value and value / 60 if name.endswith("_seconds") else value for name, value in row.items()] for row in rows
    ]
    missing = ("", "", "", "", "never", "", "", "")
    lines = [tabulate(cells, headers=headers, tablefmt="github", floatfmt=forms, missingval=missing), ""]
    for width in dict.fromkeys(row["width"] for row in rows):
        lines.append(f"Ratio at width {width}: {mean_ratio([row for row in rows if row['width'] == width])}")
    return "\n".join(lines)


def draw(path: Path, curves: dict[int, Curves]) -> None:
    """Validation loss over minutes of training, a field for each width and a line for each seed."""
    from matplotlib.figure import Figure  # needed once, at the end

    figure = Figure(figsize=(2 + 4 * len(curves), 4), layout="constrained")
    for axes, (width, by_arm) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for arm, by_seed in by_arm.items():
            for count, curve in enumerate(by_seed.values()):
                shown = [point for point in curve if point[0] >= FIRST_DRAWN * curve[-1][0]]
                minutes, losses = zip(*((seconds / 60, loss) for seconds, loss in shown), strict=True)
                axes.plot(minutes, losses, color=COLORS[arm], linewidth=1.2, label=None if count else arm)
        target = statistics.mean(curve[-1][1] for curve in by_arm[next(iter(ARMS))].values())
        axes.axhline(target, color="black", linewidth=0.8, linestyle=":", label="where the control ends")
        axes.set(title=f"width {width}", xlabel="minutes of training steps, one thread")
        axes.grid(alpha=0.3)
    first = figure.axes[0]
    first.set_ylabel("validation loss (nats per token)")
    first.legend()
    figure.savefig(path, dpi=120)


def prepare_tokenizer(dataset: str, folder: Path) -> None:
    """The tokenizer that the recipe's first lines train, unless it is there."""
    if not (folder / "tokenizer.json").exists():
        words = ["--dataset", dataset, "--vocab_size", "8192", "--output_dir", str(folder)]
        subprocess.run([sys.executable, "-m", "train.tokenizer", *words], check=True)


def main(argv: list[str]) -> int:
    """Run the experiment that a command line asks for; returns the exit status."""
    parser = command_parser("train.experiments.time_to_loss", __doc__)
    parser.add_argument(
        "--dataset", type=filled, required=True, help="rows with SYNTH's columns, as for train/pretrain.py"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of initial weights and order of data")
    parser.add_argument(
        "--widths", type=int, nargs="+", default=[256], help=f"of the model, in multiples of {HEAD_SIZE}"
    )
    parser.add_argument("--jobs", type=number(int, 1), default=1, help="runs at a time, each on a thread of its own")
    parser.add_argument(
        "--output_dir",
        type=user_path,
        default=Path("runs/time_to_loss"),
        help="where runs and results go; one for each dataset",
    )
    arguments = parser.parse_args(argv)
    for width in arguments.widths:
        if width < HEAD_SIZE or width % HEAD_SIZE:
            parser.error(f"--widths {width} is not a multiple of {HEAD_SIZE}, the size of a head")
    folder: Path = arguments.output_dir
    data = ["--dataset", arguments.dataset, "--tokenizer", str(folder / "tokenizer")]
    todo = [
        (width, arm, seed)
        for width in dict.fromkeys(arguments.widths)
        for seed in dict.fromkeys(arguments.seeds)
        for arm in ARMS
    ]
    curves: dict[int, Curves] = {width: {arm: {} for arm in ARMS} for width in arguments.widths}
    try:
        prepare_tokenizer(arguments.dataset, folder / "tokenizer")
        with ThreadPoolExecutor(arguments.jobs) as jobs:
            runs = [
                jobs.submit(
                    train_arm, arm, width, seed, data, folder / f"width{width}_seed{seed}_{list(ARMS).index(arm)}"
                )
                for width, arm, seed in todo
            ]
            for (width, arm, seed), run in zip(todo, tqdm(runs, desc="Runs"), strict=True):
                curves[width][arm][str(seed)] = run.result()
    except subprocess.CalledProcessError:  # the tokenizer's command has said why
        return 2
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    comparison = [row for width, by_arm in curves.items() for row in compare(width, by_arm)]
    results = {"curves": curves, "comparison": comparison}
    (folder / "time_to_loss.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(folder / "time_to_loss.png", curves)
    print(render(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
