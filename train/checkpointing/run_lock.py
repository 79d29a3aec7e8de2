"""One run at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from train.errors import RunRefusedError
from train.run_files import LOCK_FILE


# The workers of a killed run hold its lock until they notice, which takes them up to five seconds.
SECONDS_TO_WAIT = 10.0


@contextmanager
def lock_run(folder: Path, seconds: float = SECONDS_TO_WAIT) -> Iterator[None]:
    """Hold the folder for this process, or refuse the run; the system lets go of it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_FILE, timeout=seconds):
            yield
    except Timeout:
        raise RunRefusedError(
            f"Another run is writing into {folder} ({LOCK_FILE} is held): stop it, or choose another --output_dir."
        ) from None
