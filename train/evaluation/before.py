"""The figures of a run's model before its first step."""

import json
from collections.abc import Callable
from pathlib import Path

from train.run_files import BEFORE_FILE, write_whole


def figures_before(run_folder: Path, is_resumed: bool, writes: bool, measure: Callable[[], dict]) -> dict:
    """The figures, as `before.json` has them: `exam`, and after pre-training `pretraining_loss`.

    Args:
        is_resumed: whether the run goes on; it then reads the figures that its first start wrote.
        writes: whether this process writes them.
        measure: makes the figures; called by all processes.
    """
    file = run_folder / BEFORE_FILE
    if is_resumed and file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    figures = measure()
    if writes:
        write_whole(file, json.dumps(figures))
    return figures
