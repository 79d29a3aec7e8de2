"""One run at a time in a run folder.

The main process of a launch holds the lock, by `flock`; what lies in the folder is read under it, and the other
processes do as the main one decides. NFS and most cluster file systems keep `flock` between machines, too; Lustre does
if it is mounted with `-o flock` (with `localflock` each machine sees its own locks only). Where there is no `flock` at
all, the lock is a file that stays behind if its machine dies, and that is then to be deleted by hand.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from train.errors import RunRefusedError
from train.run_files import LOCK_FILE


# The workers of a killed run hold its lock until they notice, which takes them up to five seconds.
SECONDS_TO_WAIT = 10.0

Decision = TypeVar("Decision")


@contextmanager
def lock_run(folder: Path, seconds: float = SECONDS_TO_WAIT) -> Iterator[None]:
    """Hold the folder for this process, or refuse the run; the system lets go of it however the process ends.

    A run that is refused after all takes away a folder that it made and left empty.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / LOCK_FILE, timeout=seconds).acquire()
    except Timeout:
        raise RunRefusedError(
            f"Another run is writing into {folder} ({LOCK_FILE} is held): stop it, or choose another --output_dir."
        ) from None
    except OSError as error:
        raise OSError(
            f"{folder / LOCK_FILE} cannot be locked ({error.strerror}): choose another --output_dir, or mount its disk "
            "for writing and with file locks."
        ) from error
    with held:
        try:
            yield
        except RunRefusedError:
            if is_new and os.listdir(folder) == [LOCK_FILE]:
                (folder / LOCK_FILE).unlink()
                folder.rmdir()
            raise


def decided_by_main(decide: Callable[[], Decision], is_main: bool) -> Decision:
    """The main process's decision, in all processes of a launch; its `ValueError` or `OSError` is raised in all."""
    outcome: list = [None]
    if is_main:
        try:
            outcome = [decide()]
        except (ValueError, OSError) as error:
            outcome = [error]
    (found,) = broadcast_object_list(outcome)
    if isinstance(found, ValueError | OSError):
        PartialState().destroy_process_group()  # gloo's threads can abort a process that ends without
        raise found
    return found
