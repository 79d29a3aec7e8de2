"""A training run in child processes, whose output goes to a file in its run folder."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


CONSOLE_FILE = "console.txt"


class Run:
    """The processes of a run, with the methods of `subprocess.Popen` that are used here."""

    def __init__(self, processes: list[subprocess.Popen]):
        self.processes = processes

    def poll(self) -> int | None:
        ended = [process.poll() for process in self.processes]
        return None if None in ended else next((status for status in ended if status), 0)

    def wait(self, timeout: float | None = None) -> int | None:
        for process in self.processes:
            process.wait(timeout)
        return self.poll()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


def start_run(settings: Sequence[str], run_folder: Path, processes: int = 1) -> Run:
    """Start `train.pretrain` with the given words of its command line, in processes that train together."""
    run_folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "train.pretrain", *settings, "--output_dir", str(run_folder)]
    with open(run_folder / CONSOLE_FILE, "w", encoding="utf-8") as console:
        return Run(
            [
                subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT, env=environment)
                for environment in _environments(processes)
            ]
        )


def _environments(processes: int) -> list[dict[str, str]]:
    """Those that torchrun would give to each process."""
    if processes == 1:
        return [dict(os.environ)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    count = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    shared = {**os.environ, **count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


def read_console(run_folder: Path) -> str:
    return (run_folder / CONSOLE_FILE).read_text(encoding="utf-8")


def finish_run(process: Run, run_folder: Path) -> None:
    """Wait for the end of a run; a `RuntimeError`, with the end of its output, where it failed."""
    if process.wait() != 0:
        raise RuntimeError(f"Training failed, see {run_folder / CONSOLE_FILE}:\n{read_console(run_folder)[-3000:]}")
