"""Prove that nothing is lost: kill a run again and again, resume it, and compare it with one that was left alone.

    python -m train.experiments.fault_injection                        # the demo recipe, 20 kills
    python -m train.experiments.fault_injection --kills 100            # takes about 10 s a kill
    python -m train.experiments.fault_injection --config RECIPE ...    # any recipe and settings of train/pretrain.py

Kills are SIGKILL, which no program can answer: while it starts, while it trains, and while a checkpoint is being
written. Afterwards every loss, gradient norm and learning rate, every point that TensorBoard shows, the text samples
and the final weights must be the same bits. Exit status 1 where anything differs.
"""

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm.auto import tqdm

from train.checkpointing.checkpoints import DamagedCheckpointError, checkpoints_in, newest_complete, step_of, verify
from train.run_files import SAMPLES_FILE, TENSORBOARD_FOLDER, TRAINER_STATE_FILE, UNFINISHED_FOLDER
from train.settings.arguments import RECIPES_FOLDER


SCRIPT = Path(__file__).parent.parent / "pretrain.py"
MOMENTS = ("starting", "training", "saving")
# Short enough to be repeated, long enough for twenty kills; every step is logged, so that every step is compared.
DRILL_SETTINGS = (
    *("--max_steps", "200", "--warmup_steps", "20", "--save_steps", "10", "--eval_steps", "50"),
    *("--logging_steps", "1", "--exam_tokens", "2", "--disable_tqdm", "true"),
)
POLL_SECONDS = 0.002
LONGEST_SAVE_SECONDS = 0.5
LONGEST_TRAINING_SECONDS = 2.0
STARTED = "tokens_seen"  # in the console once a step has been logged


@dataclass
class Kill:
    """What was found after one."""

    moment: str
    step: int  # of the newest complete checkpoint
    torn: list[str]  # folders named checkpoint-STEP that are not complete: there must be none
    was_writing: bool


@dataclass
class Report:
    """What the drill has seen."""

    kills: list[Kill] = field(default_factory=list)
    rounds: int = 0
    compared: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def render(self) -> str:
        """The table."""
        lines = [f"{'killed while':<14}{'kills':>7}{'amid a write':>14}{'torn checkpoints':>18}"]
        for moment in MOMENTS:
            kills = [kill for kill in self.kills if kill.moment == moment]
            writing, torn = sum(kill.was_writing for kill in kills), sum(len(kill.torn) for kill in kills)
            lines.append(f"{moment:<14}{len(kills):>7}{writing:>14}{torn:>18}")
        lines.append("")
        lines.append(f"{'compared':<28}{'values':>10}{'different':>11}")
        for name, count in self.compared.items():
            different = sum(difference.startswith(f"{name}:") for difference in self.differences)
            lines.append(f"{name:<28}{count:>10,}{different:>11}")
        lines += ["", *self.differences[:20]]
        verdict = "DIFFERENT" if self.differences else "the same, bit for bit"
        runs = "run" if self.rounds == 1 else "runs"
        lines.append(
            f"{len(self.kills)} kills, {self.rounds} finished {runs}, compared with one never killed: {verdict}."
        )
        return "\n".join(lines)


def main(words: list[str]) -> int:
    """Run the drill on the words of a command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m train.experiments.fault_injection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, help="how often to kill (20)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the moments (0)")
    parser.add_argument("--folder", type=Path, help="where to work, kept afterwards; a temporary folder where unset")
    parser.add_argument("--config", default=str(RECIPES_FOLDER / "demo.yaml"), help="the recipe (the demo)")
    arguments, settings = parser.parse_known_args(words)
    if arguments.kills < 1:
        parser.error(f"--kills {arguments.kills} must be at least 1.")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="crash_drill_"))
    settings = ["--config", arguments.config, *DRILL_SETTINGS, *settings]
    try:
        report = drill(folder, settings, arguments.kills, random.Random(arguments.seed))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(report.render())
    return 1 if report.differences else 0


def drill(folder: Path, settings: list[str], kills: int, chance: random.Random) -> Report:
    """Train once in peace, and then again under fire until all kills are used up and the run has finished."""
    report = Report()
    never_killed = folder / "never_killed"
    began = time.monotonic()
    _finish(start(settings, never_killed), never_killed)
    tqdm.write(f"One run left alone: {time.monotonic() - began:.0f} s.")
    expected = record(never_killed)
    with tqdm(total=kills, desc="Killing", unit=" kills") as progress:
        while len(report.kills) < kills:
            under_fire = folder / f"killed_{report.rounds}"
            for _ in range(kills - len(report.kills)):
                moment = chance.choice(MOMENTS)
                process = start(settings, under_fire)
                if not kill_at(process, under_fire, moment, chance):
                    break  # it had finished before its moment came
                report.kills.append(look(under_fire, moment))
                progress.update()
                progress.set_postfix(moment=moment, step=report.kills[-1].step)
            _finish(start(settings, under_fire), under_fire)
            report.rounds += 1
            compare(expected, record(under_fire), report)
            if not report.differences:
                shutil.rmtree(under_fire)
    for kill in report.kills:
        report.differences += [f"torn checkpoint: {torn}" for torn in kill.torn]
    return report


def start(settings: list[str], run_folder: Path) -> subprocess.Popen:
    """A training process that goes on where the folder's newest complete checkpoint is; its console goes to a file."""
    run_folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(SCRIPT), *settings, "--output_dir", str(run_folder)]
    command += ["--resume_from_checkpoint", "auto"]
    with open(run_folder / "console.txt", "w", encoding="utf-8") as console:
        return subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT, start_new_session=True)


def kill_at(process: subprocess.Popen, run_folder: Path, moment: str, chance: random.Random) -> bool:
    """Kill a process at a random point of a moment; returns whether it was still running."""
    began = time.monotonic()
    if moment == "starting":
        _wait(process, chance.uniform(0.1, 6.0))
    elif _wait_for(process, lambda: STARTED in (run_folder / "console.txt").read_text(encoding="utf-8")):
        if moment == "training":
            _wait(process, chance.uniform(0, LONGEST_TRAINING_SECONDS))
        else:
            # Not always the first: the run must also get on.
            passed = newest_step(run_folder) + chance.choice((0, 10, 20))
            _wait_for(process, lambda: _saving_beyond(run_folder, passed))
            _wait(process, chance.uniform(0, LONGEST_SAVE_SECONDS) ** 2 / LONGEST_SAVE_SECONDS)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    assert was_running or process.returncode == 0, (
        f"after {time.monotonic() - began:.0f} s: " + (run_folder / "console.txt").read_text(encoding="utf-8")[-3000:]
    )
    return was_running


def look(run_folder: Path, moment: str) -> Kill:
    """What a kill has left."""
    torn = []
    for checkpoint in checkpoints_in(run_folder):
        try:
            verify(checkpoint)
        except DamagedCheckpointError as error:
            torn.append(str(error))
    was_writing = (run_folder / UNFINISHED_FOLDER).exists() and any((run_folder / UNFINISHED_FOLDER).iterdir())
    return Kill(moment, newest_step(run_folder), torn, was_writing)


def newest_step(run_folder: Path) -> int:
    """The step of the newest complete checkpoint, 0 where there is none."""
    checkpoint, _ = newest_complete(run_folder)
    return step_of(checkpoint) if checkpoint is not None else 0


def record(run_folder: Path) -> dict[str, dict]:
    """All that a finished run leaves and that a kill must not change, as {what: {key: value}}."""
    history = json.loads((run_folder / TRAINER_STATE_FILE).read_text(encoding="utf-8"))["log_history"]
    logged = ("loss", "grad_norm", "learning_rate", "tokens_seen", "eval_loss")
    board = EventAccumulator(str(run_folder / TENSORBOARD_FOLDER), size_guidance={"scalars": 0}).Reload()
    shown = [tag for tag in board.Tags()["scalars"] if tag.rpartition("/")[2] in ("loss", "grad_norm", "learning_rate")]
    samples = (run_folder / SAMPLES_FILE).read_text(encoding="utf-8") if (run_folder / SAMPLES_FILE).exists() else ""
    return {
        "logged": {(entry["step"], name): entry[name] for entry in history for name in logged if name in entry},
        "TensorBoard": {
            (tag, number): (event.step, event.value) for tag in shown for number, event in enumerate(board.Scalars(tag))
        },
        "text samples": dict(enumerate(samples.splitlines())),
        "weights": load_file(run_folder / "model.safetensors"),
    }


def compare(expected: dict[str, dict], found: dict[str, dict], report: Report) -> None:
    """Count what is compared, and note what differs."""
    for what, values in expected.items():
        for key in values.keys() | found[what].keys():
            value, other = values.get(key), found[what].get(key)
            if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor):
                same = torch.equal(value, other)
                report.compared[what] += value.numel()
            else:
                same = value == other
                report.compared[what] += 1
            if not same:
                shown = "" if isinstance(value, torch.Tensor) else f" {value!r}, after kills {other!r}"
                report.differences.append(f"{what}: {key}{shown}")


def _saving_beyond(run_folder: Path, step: int) -> bool:
    return any(step_of(path) > step for path in checkpoints_in(run_folder / UNFINISHED_FOLDER))


def _wait(process: subprocess.Popen, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _wait_for(process: subprocess.Popen, happened: Callable[[], bool]) -> bool:
    """Wait until something has happened; False if the process ended before."""
    while process.poll() is None:
        if happened():
            return True
        time.sleep(POLL_SECONDS)
    return False


def _finish(process: subprocess.Popen, run_folder: Path) -> None:
    if process.wait() != 0:
        raise RuntimeError((run_folder / "console.txt").read_text(encoding="utf-8")[-5000:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
