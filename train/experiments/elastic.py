"""An elastic run: two agents of torchrun on this machine, one of which is killed and started again, time after time."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tabulate import tabulate
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # of C++
from tqdm.auto import tqdm

from train.checkpointing.checkpoints import checkpoints_in, complete_checkpoints
from train.experiments.child_run import CONSOLE_FILE, finish_run, read_console, start_run
from train.run_files import TRAINER_STATE_FILE


SCRIPT = ("-m", "train.pretrain")
# What a kill hits: SIGKILL to an agent and its process, or to the agent alone; SIGTERM to the agent.
WAYS = ("the machine", "the agent", "SIGTERM")
HEADERS = ("killed", "at step", "one goes on from", "s to its next step", "two go on from", "s from their start")
TOLERANCE = 1e-4  # relative, of a loss: with another number of processes, sums are in another order
LONGEST_WAIT_SECONDS = 300.0
LONGEST_TRAINING_SECONDS = 3.0
# The store of the rendezvous is apart from the agents, so that each of them can be killed; its waits are short.
LAUNCHER = (
    *("--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=100", "--rdzv-backend=c10d", "--rdzv-id=elastic"),
    "--rdzv-conf=is_host=0,last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=3",
)


def start_agent(port: int, settings: list[str], run_folder: Path) -> subprocess.Popen:
    """Start an agent with one process that trains; all agents write to the same console."""
    words = [*LAUNCHER, f"--rdzv-endpoint=127.0.0.1:{port}", *SCRIPT, *settings, "--output_dir", str(run_folder)]
    with open(run_folder / CONSOLE_FILE, "a", encoding="utf-8") as console:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *words, "--resume_from_checkpoint", "auto"],
            env={**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            stdout=console,
            stderr=subprocess.STDOUT,
        )


def kill_agent(agent: subprocess.Popen, way: str) -> None:
    workers = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    agent.send_signal(signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
    for worker in workers if way == "the machine" else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(worker), signal.SIGKILL)
    agent.wait()


def wait_for_step(run_folder: Path, processes: int, offset: int) -> tuple[int, int]:
    """Wait until so many processes have logged a step, in what the console holds from `offset` on; returns the step of
    the checkpoint that they went on from, and the step. A `RuntimeError` where that does not come."""
    pattern = rf"(?:checkpoint-(\d+)|Starting in \S+)\.\n{processes} process\(es\).*?; ([\d,]+) tokens per step"
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    while time.monotonic() < end:
        text = read_console(run_folder)[offset:]
        begun = list(re.finditer(pattern, text))
        seen = re.findall(r"'tokens_seen': (\d+)", text[begun[-1].end() :]) if begun else []
        if seen:
            return int(begun[-1][1] or 0), int(seen[-1]) // int(begun[-1][2].replace(",", ""))
        time.sleep(0.05)
    console = run_folder / CONSOLE_FILE
    raise RuntimeError(f"No step of {processes} processes: see {console}. If all were taken, raise --max_steps.")


def inject_elastic_faults(folder: Path, settings: list[str], kills: int, chance: random.Random) -> tuple[str, bool]:
    """Train with one process undisturbed, and with two, of which one is killed again and again.

    Returns:
        The table of kills with a verdict; and whether all is well: the losses of both runs are the same to `TOLERANCE`,
        no checkpoint is torn, and each step was taken once.
    """
    alone, run_folder = folder / "never_killed", folder / "elastic"
    finish_run(start_run(settings, alone, processes=1), alone)
    run_folder.mkdir()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    rows: list[tuple] = []
    torn, offset = set(), 0
    agents = [start_agent(store.port, settings, run_folder) for _ in range(2)]
    try:
        for number in tqdm(range(kills), desc="Killing", unit=" kills"):
            wait_for_step(run_folder, 2, offset)
            time.sleep(chance.uniform(0, LONGEST_TRAINING_SECONDS))
            _, step = wait_for_step(run_folder, 2, offset)
            way, offset, killed = WAYS[number % len(WAYS)], len(read_console(run_folder)), time.monotonic()
            kill_agent(agents.pop(chance.randrange(2)), way)
            not_whole = set(checkpoints_in(run_folder)) - set(complete_checkpoints(run_folder))
            torn |= {path for path in not_whole if path.exists()}  # else it was rotated away meanwhile
            one_from, _ = wait_for_step(run_folder, 1, offset)
            alone_at = time.monotonic()
            agents.append(start_agent(store.port, settings, run_folder))
            two_from, _ = wait_for_step(run_folder, 2, offset)
            rows.append((way, step, one_from, alone_at - killed, two_from, time.monotonic() - alone_at))
        for agent in agents:
            agent.wait(LONGEST_WAIT_SECONDS)
    finally:
        for agent in agents:
            agent.kill()
    expected, found = read_losses(alone), read_losses(run_folder)
    differences = [abs(other / loss - 1) for (_, loss), (_, other) in zip(expected, found, strict=False)]
    is_once = [step for step, _ in expected] == [step for step, _ in found]
    is_same = is_once and not torn and max(differences) < TOLERANCE
    return (
        f"{tabulate(rows, headers=HEADERS, floatfmt='.0f')}\n\n{len(found)} steps, "
        f"{'each taken once' if is_once else 'not those of the other run'}; torn checkpoints: {len(torn)}; relative "
        f"difference of a loss, at most {max(differences):.1e}, at the end {differences[-1]:.1e}.\nBeside one process "
        f"that was never killed: {'the same but for rounding' if is_same else 'DIFFERENT'}."
    ), is_same


def read_losses(run_folder: Path) -> list[tuple[int, float]]:
    """Step and loss of each line of a finished run's log; an `OSError` where it has not finished."""
    history = json.loads((run_folder / TRAINER_STATE_FILE).read_text(encoding="utf-8"))["log_history"]
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
