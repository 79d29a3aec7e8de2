"""SHA-256 of files: as a list beside them states it, or computed, once."""

import hashlib
import json
import logging
import re
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock

from train.data.cache_folder import fingerprint
from train.run_files import write_whole


logger = logging.getLogger(__name__)

# In a folder: what `sha256sum *.parquet > SHA256SUMS` writes. The files are then checked against it.
CHECKSUMS_FILE = "SHA256SUMS"
BYTES_WORTH_A_WORD = 2**30  # reading them takes seconds


def read_checksums(file: Path) -> dict[Path, str]:
    """Path to SHA-256, from what `sha256sum` wrote; empty where there is no such file."""
    checksums = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines() if file.is_file() else [], start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if match is None:
            raise ValueError(f"{file}, line {number}: {line[:80]!r} is not what sha256sum writes.")
        checksums[(file.parent / match[2]).absolute()] = match[1]
    return checksums


def sha256_of(path: Path) -> str:
    """Computed once in a process for a file that does not change (see `kept_checksums` for what counts as one)."""
    return _sha256(path, _state(path))


def kept_checksums(paths: list[Path], folder: Path) -> list[str]:
    """Computed once for all processes: kept in a folder, if it can be written, under path, size, times and inode of the
    files. A file that was touched, moved or copied is read again, and its checksum is what it was.

    A change is not seen where size, inode and both times (`mtime`, and `ctime`, which no program sets) stay the same.
    That takes a clock that was set back, or two changes within one tick of it, a few milliseconds.
    """
    states = [[str(path), *_state(path)] for path in paths]
    kept = folder / "checksums" / f"{fingerprint(states)}.json"
    with ExitStack() as locked:
        if not kept.is_file():
            with suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                locked.enter_context(FileLock(f"{kept}.lock"))  # else all processes would read the files
        if not kept.is_file():
            if (total := sum(path.stat().st_size for path in paths)) > BYTES_WORTH_A_WORD:
                logger.info("Computing the checksums of %.0f GB of rows, once.", total / 1e9)
            checksums = list(map(sha256_of, paths))
            with suppress(OSError):
                write_whole(kept, json.dumps(checksums))
            return checksums
    return json.loads(kept.read_text("utf-8"))


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@cache
def _sha256(path: Path, state: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
