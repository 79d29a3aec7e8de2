"""Measure how long the shipped recipe takes to the loss that a tuned AdamW ends with (see train/experiments/README.md).

    python -m train.experiments.time_to_loss --dataset FOLDER_OF_ROWS --seeds 1 2 3

For each seed, both arms train `train/recipes/small_cpu.yaml` on one thread, from the same initial weights and on the
same sequences in the same order; the control with AdamW, for twice as many steps and more. About 75 minutes on one core
for three seeds. Prints a table, and writes `time_to_loss.json` and `time_to_loss.png` into `--output_dir`.
"""

import json
import statistics
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from tabulate import tabulate
from tqdm.auto import tqdm

from train.experiments.child_run import finish_run, start_run
from train.run_files import TRAINER_STATE_FILE, command_parser, filled, user_path
from train.settings.arguments import RECIPES_FOLDER


# Of small_cpu.yaml, what the control has otherwise. The learning rate is the best of 1e-3, 2e-3, 3e-3 and 5e-3.
CONTROL = {"optim_name": "adamw", "learning_rate": "2e-3", "max_steps": "850", "warmup_steps": "50"}
ARMS: dict[str, dict[str, str]] = {"AdamW (control)": CONTROL, "shipped recipe (Muon)": {}}
COLORS = dict(zip(ARMS, ("tab:gray", "tab:blue"), strict=True))

Curve = list[tuple[float, float]]  # seconds of training steps, validation loss


def train_arm(arm: str, seed: int, dataset: str, run_folder: Path) -> Curve:
    """Train one arm in a child process."""
    settings = {
        **ARMS[arm],
        "config": str(RECIPES_FOLDER / "small_cpu.yaml"),
        "dataset": dataset,
        "seed": str(seed),
        "cpu_threads": "1",
        "eval_steps": "25",
        "save_strategy": "no",
        "report_to": "none",
        "sample_tokens": "1",
    }
    argv = [word for name, value in settings.items() for word in (f"--{name}", value)]
    finish_run(start_run(argv, run_folder), run_folder)
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


def compare(curves: dict[str, dict[str, Curve]]) -> list[dict]:
    """For each seed, the control's last loss and its time, the recipe's time to that loss, and its own last loss."""
    control, recipe = (curves[arm] for arm in ARMS)
    rows = []
    for seed, curve in control.items():
        seconds, loss = curve[-1]
        reached = seconds_to(loss, recipe[seed])
        rows.append(
            {
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


def render(rows: list[dict]) -> str:
    """A table, its times in minutes."""
    headers = ("seed", "control's last loss", "minutes", "recipe there at", "ratio", "recipe's last loss", "minutes")
    forms = ("", ".3f", ".1f", ".1f", ".2f", ".3f", ".1f")
    cells = [
        [value and value / 60 if name.endswith("_seconds") else value for name, value in row.items()] for row in rows
    ]
    missing = ("", "", "", "never", "", "", "")
    table = tabulate(cells, headers=headers, tablefmt="github", floatfmt=forms, missingval=missing)
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return f"{table}\n\nMedian ratio: {statistics.median(ratios):.2f}" if ratios else table


def draw(path: Path, curves: dict[str, dict[str, Curve]]) -> None:
    """Validation loss over minutes of training, a line for each seed."""
    from matplotlib.figure import Figure  # needed once, at the end

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for arm, by_seed in curves.items():
        for number, curve in enumerate(by_seed.values()):
            minutes, losses = zip(*((seconds / 60, loss) for seconds, loss in curve), strict=True)
            axes.plot(minutes, losses, color=COLORS[arm], linewidth=1.2, label=arm if number == 0 else None)
    target = statistics.mean(curve[-1][1] for curve in curves[next(iter(ARMS))].values())
    axes.axhline(target, color="black", linewidth=0.8, linestyle=":", label="where the control ends")
    axes.set_ylim(top=7.5)
    axes.set(xlabel="minutes of training steps, one thread", ylabel="validation loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv: list[str]) -> int:
    """Run the experiment that a command line asks for; returns the exit status."""
    parser = command_parser("train.experiments.time_to_loss", __doc__)
    parser.add_argument(
        "--dataset", type=filled, required=True, help="rows with SYNTH's columns, as for train/pretrain.py"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of initial weights and order of data")
    parser.add_argument(
        "--output_dir", type=user_path, default=Path("runs/time_to_loss"), help="where runs and results go"
    )
    arguments = parser.parse_args(argv)
    if arguments.output_dir.exists():
        parser.error(f"--output_dir {arguments.output_dir} exists: choose another, or move it away")
    curves: dict[str, dict[str, Curve]] = {arm: {} for arm in ARMS}
    todo = [(arm, seed) for seed in dict.fromkeys(arguments.seeds) for arm in ARMS]
    for number, (arm, seed) in enumerate(tqdm(todo, desc="Runs")):
        run_folder = arguments.output_dir / str(number)
        try:
            curves[arm][str(seed)] = train_arm(arm, seed=seed, dataset=arguments.dataset, run_folder=run_folder)
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
    comparison = compare(curves)
    results = {"curves": curves, "comparison": comparison}
    (arguments.output_dir / "time_to_loss.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(arguments.output_dir / "time_to_loss.png", curves)
    print(render(comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
