"""Room on the disk for the checkpoints to come, known before the first step and named when it runs out."""

import shutil
from pathlib import Path

from torch import nn

from train.errors import RunRefusedError


# A checkpoint's small files: tokenizer (3.5 MB), code, states; and the optimizer's step counters.
OTHER_BYTES = 8_000_000


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def checkpoint_bytes(model: nn.Module, optimizer_values: int = 2) -> int:
    """About what a checkpoint of this model takes: its weights, and the optimizer's values for each of them (Adam: two,
    in the weights' own dtype)."""
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return weights * (1 + optimizer_values) + OTHER_BYTES


def check_room(folder: Path, needed_bytes: int, held_bytes: int, what: str) -> None:
    """Refuse to start what will not fit: the bytes that will lie in the folder at once, less those held there."""
    free = shutil.disk_usage(folder).free
    missing = needed_bytes - held_bytes
    if missing > free:
        raise RunRefusedError(
            f"{folder} has {_gigabytes(free)} free, and {what} need {_gigabytes(missing)}: free space, choose another "
            "--output_dir, or keep fewer with --save_total_limit."
        )


def describe_failure(folder: Path, needed_bytes: int) -> str:
    """The space that a failed write of a checkpoint needed, and the space that is free."""
    free = _gigabytes(shutil.disk_usage(folder).free)
    return f"a checkpoint takes about {_gigabytes(needed_bytes)}, {free} are free on its disk"


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.3f} GB"
