"""Where figures come from: the commit of this code, the versions of its libraries, and the hardware that it ran on."""

import os
import platform
import subprocess
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from train.hardware import available_cores


def git_commit() -> str | None:
    """The commit of this code, where it is a git checkout with nothing changed; else `None`."""
    try:
        run = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        run(["git", "ls-files", "--error-unmatch", Path(__file__).name])  # else the checkout around us is another's
        changed = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
        return None if changed else run(["git", "rev-parse", "HEAD"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_versions(*more: str) -> dict[str, str]:
    """The versions of Python and of the libraries that figures depend on."""
    libraries = {name: version(name) for name in ("torch", "transformers", *more)}
    return {"python": platform.python_version(), **libraries}


def describe_hardware() -> dict:
    """The kind and number of the devices that a run trains on."""
    if torch.backends.mps.is_available():
        return {"device": f"Apple GPU ({platform.machine()})", "devices": 1}
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "devices": int(os.environ.get("WORLD_SIZE", "1"))}
    return {"device": f"CPU ({platform.machine()}), {available_cores()} cores", "devices": 1}
