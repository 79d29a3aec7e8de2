"""Who may read a saved folder's files."""

import os
import shutil
from pathlib import Path


def share_weight_files(folder: str | os.PathLike) -> None:
    """Give weight files the mode of the `config.json` beside them, which follows the user's umask.

    The safetensors library writes its files for their owner alone (mode 600), so that colleagues, web servers and
    containers with another user could list a model on a shared disk, and not load it.
    """
    config_file = Path(folder) / "config.json"
    for weights in Path(folder).glob("*.safetensors"):
        shutil.copymode(config_file, weights)
