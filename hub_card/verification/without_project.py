"""Runs a script in a process that cannot import this project, as on a machine where it is not installed.

Where this package is installed, its classes win over a folder's own code, even with `trust_remote_code=True`. So what
is staged is opened in a child process, whose main program is this file:

    python -P without_project.py SCRIPT ARGUMENTS...
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path


PROJECT = ("modeling_gpt2scratch", "train", "hub_card")


class VerificationError(RuntimeError):
    """The staged folder does not open, or computes something else than the run's model."""


def run_without_project(script: str, *arguments: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a script of this folder in a child process, in `folder`, with `environment` beside this process's own.

    Raises:
        VerificationError: the script failed; the message ends with the last line of its error.
    """
    here = Path(__file__).resolve()
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_MODULES_CACHE")}
    finished = subprocess.run(
        # -P: the folder of this file is not searched for modules.
        [sys.executable, "-P", str(here), str(here.with_name(script)), *arguments],
        cwd=folder,
        env={**own, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        raise VerificationError(f"What is staged does not work where this package is not installed: {reason}")


if __name__ == "__main__":
    for package in PROJECT:
        sys.modules[package] = None  # type: ignore[assignment]  # so it cannot be imported, installed or not
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
