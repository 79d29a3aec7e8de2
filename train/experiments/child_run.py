"""A training run in a child process, whose output goes to a file in its run folder."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


CONSOLE_FILE = "console.txt"


def start_run(settings: Sequence[str], run_folder: Path) -> subprocess.Popen:
    """Start `train.pretrain` with the given words of its command line."""
    run_folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "train.pretrain", *settings, "--output_dir", str(run_folder)]
    with open(run_folder / CONSOLE_FILE, "w", encoding="utf-8") as console:
        return subprocess.Popen(command, stdout=console, stderr=subprocess.STDOUT)


def read_console(run_folder: Path) -> str:
    return (run_folder / CONSOLE_FILE).read_text(encoding="utf-8")


def finish_run(process: subprocess.Popen, run_folder: Path) -> None:
    """Wait for the end of a run; a `RuntimeError`, with the end of its output, where it failed."""
    if process.wait() != 0:
        raise RuntimeError(f"Training failed, see {run_folder / CONSOLE_FILE}:\n{read_console(run_folder)[-3000:]}")
