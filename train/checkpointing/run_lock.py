"""One run at a time in a run folder.

The main process of a launch holds the lock, by `flock`; what lies in the folder is read under it, and the other
processes do as the main one decides. NFS and most cluster file systems keep `flock` between machines, too. Where they
do not (Lustre without `-o flock`, some mounts of object stores), each machine sees its own locks only: so the process
also makes a file with its machine's name, and touches it every two seconds; another machine that sees it touched is
refused. Where there is no `flock` at all, the lock is a file that stays behind if its machine dies, and that is then to
be deleted by hand.
"""

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from train.errors import RunRefusedError
from train.run_files import LOCK_FILE, OWNER_FILE


# The workers of a killed run hold its lock until they notice, which takes them up to five seconds.
SECONDS_TO_WAIT = 10.0
SECONDS_BETWEEN_SIGNS = 2.0  # of life, by a run to other machines
SIGNS_MISSED = 3  # after which they take it for dead

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
            with claim_from_other_machines(folder / OWNER_FILE):
                yield
        except RunRefusedError:
            if is_new and os.listdir(folder) == [LOCK_FILE]:
                (folder / LOCK_FILE).unlink()
                folder.rmdir()
            raise


@contextmanager
def claim_from_other_machines(file: Path) -> Iterator[None]:
    """Hold a file that says which machine writes beside it, or refuse the run while another one does. The lock is held
    already: what this machine has left behind is of a run that was killed."""
    machine = f"{platform.node()} ({uuid.getnode():x})"
    with suppress(FileNotFoundError):
        if (owner := file.read_text(encoding="utf-8")) != machine:
            before = _touched(file)
            time.sleep(SECONDS_BETWEEN_SIGNS * SIGNS_MISSED)
            if _touched(file) != before:
                raise RunRefusedError(
                    f"Another run is writing into {file.parent}, on {owner}, whose locks are not seen here: stop it, "
                    "choose another --output_dir, or mount the disk with locks between machines."
                )
        file.unlink()
    try:
        with open(file, "x", encoding="utf-8") as out:  # by one machine only, also without locks
            out.write(machine)
    except FileExistsError:
        raise RunRefusedError(f"Another run has begun in {file.parent} at this moment, on another machine.") from None
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            with suppress(OSError):
                os.utime(file)

    signs = threading.Thread(target=show_life, daemon=True)
    signs.start()
    try:
        yield
    finally:
        ended.set()
        signs.join()
        file.unlink(missing_ok=True)


def _touched(file: Path) -> int:
    """When a file was touched last, in nanoseconds; opened first, as network disks then ask their server."""
    with open(file, "rb") as opened:
        return os.fstat(opened.fileno()).st_mtime_ns


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
