"""Prove that a killed run loses nothing: kill it again and again, resume it, and compare it with an undisturbed run.

    python -m train.experiments.fault_injection                        # the demo recipe, 20 kills
    python -m train.experiments.fault_injection --kills 100            # takes about 10 s a kill
    python -m train.experiments.fault_injection --async_save true      # with checkpoints written while it trains
    python -m train.experiments.fault_injection --config RECIPE ...    # any recipe and settings of train/pretrain.py
    python -m train.experiments.fault_injection --elastic --kills 6    # two agents of torchrun, one of them killed
    python -m train.experiments.fault_injection --processes 2 --fsdp_size 2    # a model in shards

Kills are SIGKILL, which no program can answer: while the run starts, while it trains, and while it writes a checkpoint.
Afterwards every loss, gradient norm and learning rate, every point that TensorBoard shows, the text samples and the
final weights must be the same bits. The exit status is 1 if anything differs.

With `--elastic`, one of two agents is killed at random steps; the other goes on alone, and with it when it is back.
"""

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
from typing import Literal, get_args

import torch
from safetensors.torch import load_file
from tabulate import tabulate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm.auto import tqdm
from transformers.trainer import OPTIMIZER_NAME

from train.checkpointing.checkpoints import DamagedCheckpointError, checkpoints_in, newest_complete, step_of, verify
from train.experiments.child_run import Run, finish_run, read_console, start_run
from train.experiments.elastic import inject_elastic_faults
from train.run_files import (
    TENSORBOARD_FOLDER,
    TRAINER_STATE_FILE,
    UNFINISHED_FOLDER,
    WEIGHTS_FILE,
    command_parser,
    read_samples,
    user_path,
)
from train.settings.arguments import RECIPES_FOLDER


Moment = Literal["starting", "training", "saving"]
# Short enough to be repeated, long enough for twenty kills; every step is logged, so that every step is compared.
SETTINGS = (
    *("--max_steps", "200", "--warmup_steps", "20", "--save_steps", "10", "--eval_steps", "50"),
    *("--logging_steps", "1", "--exam_tokens", "2", "--disable_tqdm", "true"),
)
# Other processes draw other dropout; a run of two starts with one where the other comes late.
ELASTIC = (
    *("--attn_pdrop", "0", "--embd_pdrop", "0", "--resid_pdrop", "0", "--cpu_threads", "1", "--max_steps", "600"),
    *("--per_device_train_batch_size", "4", "--global_batch_size", "8", "--html_report", "false"),
)
LOGGED = ("loss", "grad_norm", "learning_rate", "tokens_seen", "eval_loss")
POLL_SECONDS = 0.002
LONGEST_START_SECONDS = 6.0
LONGEST_TRAINING_SECONDS = 2.0
LONGEST_SAVE_SECONDS = 0.5


@dataclass
class Report:
    """The kills, the number of values compared, and the differences found."""

    kills: Counter[Moment] = field(default_factory=Counter)
    amid_a_write: Counter[Moment] = field(default_factory=Counter)
    torn: Counter[Moment] = field(default_factory=Counter)  # folders named checkpoint-STEP that are not complete
    finished_runs: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)  # such a folder is one

    def render(self) -> str:
        counts = (self.kills, self.amid_a_write, self.torn)
        kills = [(moment, *(count[moment] for count in counts)) for moment in get_args(Moment)]
        different = Counter(difference.partition(":")[0] for difference in self.differences)
        compared = [(name, count, different[name]) for name, count in self.compared.items()]
        verdict = "DIFFERENT" if self.differences else "the same, bit for bit"
        parts = [
            tabulate(kills, headers=("killed while", "kills", "amid a write", "torn checkpoints")) + "\n",
            tabulate(compared, headers=("compared", "values", "different"), intfmt=",") + "\n",
            *self.differences[:20],
            f"{self.kills.total()} kills, {self.finished_runs} finished run(s), beside one never killed: {verdict}.",
        ]
        return "\n".join(parts)


def main(argv: list[str]) -> int:
    """Run the experiment that a command line asks for; returns the exit status."""
    parser = command_parser("train.experiments.fault_injection", __doc__)
    parser.add_argument("--kills", type=int, default=20, help="number of kills (20)")
    parser.add_argument("--processes", type=int, default=1, help="that train together, and are killed together (1)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the moments (0)")
    parser.add_argument(
        "--folder", type=user_path, help="where to work, kept afterwards; a temporary folder where unset"
    )
    parser.add_argument("--config", default=str(RECIPES_FOLDER / "demo.yaml"), help="the recipe (the demo)")
    parser.add_argument("--elastic", action="store_true", help="kill one of two agents of torchrun, and bring it back")
    arguments, settings = parser.parse_known_args(argv)
    for name in ("kills", "processes"):
        if vars(arguments)[name] < 1:
            parser.error(f"--{name} {vars(arguments)[name]} must be at least 1.")
    folder = arguments.folder
    if folder and folder.exists() and (folder.is_file() or any(folder.iterdir())):
        parser.error(f"--folder {folder} is not an empty folder: name a new one, or empty it.")
    settings = ["--config", arguments.config, *SETTINGS, *(ELASTIC if arguments.elastic else ()), *settings]
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fault_injection_")))
        chance = random.Random(arguments.seed)
        try:
            if arguments.elastic:
                text, is_same = inject_elastic_faults(folder, settings, kills=arguments.kills, chance=chance)
                print(text)
                return 0 if is_same else 1
            report = inject_faults(folder, settings, arguments.kills, chance, processes=arguments.processes)
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
    print(report.render())
    return 1 if report.differences else 0


def inject_faults(folder: Path, settings: list[str], kills: int, chance: random.Random, processes: int = 1) -> Report:
    """Train once undisturbed, and then with kills until they are used up and the run has finished."""
    report = Report()
    undisturbed = folder / "never_killed"
    finish_run(start_run(settings, undisturbed, processes), undisturbed)
    expected = record(undisturbed)
    settings = [*settings, "--resume_from_checkpoint", "auto"]
    with tqdm(total=kills, desc="Killing", unit=" kills") as progress:
        while report.kills.total() < kills:
            run_folder = folder / f"killed_{report.finished_runs}"
            while report.kills.total() < kills:
                moment = chance.choice(get_args(Moment))
                process = start_run(settings, run_folder, processes)
                if not kill_at(process, run_folder=run_folder, moment=moment, chance=chance):
                    break  # it had finished before its moment came
                note_kill(run_folder, moment, report)
                progress.update()
                progress.set_postfix(moment=moment, step=newest_step(run_folder))
            finish_run(start_run(settings, run_folder, processes), run_folder)
            report.finished_runs += 1
            compare(expected, record(run_folder), report)
            if not report.differences:
                shutil.rmtree(run_folder)
    return report


def kill_at(process: Run, run_folder: Path, moment: Moment, chance: random.Random) -> bool:
    """Kill a run at a random point of a moment; returns whether it was still running."""
    if moment == "starting":
        _wait(process, chance.uniform(0.1, LONGEST_START_SECONDS))
    elif _wait_for(process, lambda: "tokens_seen" in read_console(run_folder)):  # a step is logged
        if moment == "training":
            _wait(process, chance.uniform(0, LONGEST_TRAINING_SECONDS))
        else:
            # Not always the first checkpoint: the run must also get on.
            passed = newest_step(run_folder) + chance.choice((0, 10, 20))
            unfinished = run_folder / UNFINISHED_FOLDER
            _wait_for(process, lambda: any(step_of(path) > passed for path in checkpoints_in(unfinished)))
            _wait(process, chance.uniform(0, LONGEST_SAVE_SECONDS) ** 2 / LONGEST_SAVE_SECONDS)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    assert was_running or process.poll() == 0, read_console(run_folder)[-3000:]
    return was_running


def note_kill(run_folder: Path, moment: Moment, report: Report) -> None:
    """Count a kill; look for torn checkpoints, and for traces of a write that was cut off."""
    report.kills[moment] += 1
    report.amid_a_write[moment] += any((run_folder / UNFINISHED_FOLDER).glob("*"))
    for checkpoint in checkpoints_in(run_folder):
        try:
            verify(checkpoint)
        except DamagedCheckpointError as error:
            report.torn[moment] += 1
            report.differences.append(f"torn checkpoint: {error}")


def newest_step(run_folder: Path) -> int:
    """The step of the newest complete checkpoint, 0 where there is none."""
    checkpoint, _ = newest_complete(run_folder)
    return step_of(checkpoint) if checkpoint is not None else 0


def record(run_folder: Path) -> dict[str, dict]:
    """Everything that a finished run leaves and that a kill must not change, as {kind: {key: value}}."""
    history = json.loads((run_folder / TRAINER_STATE_FILE).read_text(encoding="utf-8"))["log_history"]
    board = EventAccumulator(str(run_folder / TENSORBOARD_FOLDER), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in board.Tags()["scalars"] if tag.rpartition("/")[2] in LOGGED[:3]]
    return {
        "logged": {(entry["step"], name): entry[name] for entry in history for name in LOGGED if name in entry},
        "TensorBoard": {
            (tag, number): (event.step, event.value) for tag in tags for number, event in enumerate(board.Scalars(tag))
        },
        "text samples": dict(enumerate(read_samples(run_folder))),
        "weights": load_file(run_folder / WEIGHTS_FILE),
        "optimizer": _optimizer_state(run_folder),
    }


def _optimizer_state(run_folder: Path) -> dict[str, torch.Tensor]:
    """That of the newest checkpoint, whole; empty where there is none."""
    checkpoint, _ = newest_complete(run_folder)
    state = torch.load(checkpoint / OPTIMIZER_NAME, weights_only=True)["state"] if checkpoint is not None else {}
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def compare(expected: dict[str, dict], found: dict[str, dict], report: Report) -> None:
    """Count the values that are compared, and note the differences."""
    for kind, values in expected.items():
        for key in values.keys() | found[kind].keys():
            value, other = values.get(key), found[kind].get(key)
            if isinstance(value, torch.Tensor) and isinstance(other, torch.Tensor):
                is_same, shown, count = torch.equal(value, other), "", value.numel()
            else:
                is_same, shown, count = value == other, f" {value!r}, after kills {other!r}", 1
            report.compared[kind] += count
            if not is_same:
                report.differences.append(f"{kind}: {key}{shown}")


def _wait(process: Run, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _wait_for(process: Run, happened: Callable[[], bool]) -> bool:
    """Wait until something has happened; False if the process ended before."""
    while process.poll() is None:
        if happened():
            return True
        time.sleep(POLL_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
