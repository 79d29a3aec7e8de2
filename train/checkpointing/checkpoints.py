"""A checkpoint is complete or absent.

It is written in `RUN/unfinished/`, flushed to the disk, given a manifest of its files and renamed into place. Only a
folder whose files are those of its manifest is a checkpoint: for resuming, for rotation, and for the space it takes.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from train.run_files import DAMAGED_PREFIX, MANIFEST_FILE, UNFINISHED_FOLDER, write_whole


_NAME = re.compile(r"checkpoint-(\d+)")


class DamagedCheckpointError(ValueError):
    """A checkpoint that is torn, or whose content is not what was written."""


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint} is not named checkpoint-STEP.")
    return int(match[1])


def checkpoints_in(run_folder: Path) -> list[Path]:
    """All that is named as a checkpoint, whole or not, the newest step first."""
    found = [path for path in run_folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def write_manifest(folder: Path, facts: dict) -> None:
    """Flush every file of a folder to the disk, and then write `manifest.json`: size and SHA-256 of each, and `facts`.

    The manifest is the last file to appear, and appears whole.
    """
    paths = list(_files(folder))
    with ThreadPoolExecutor() as threads:  # the disk takes the bytes while they are hashed
        flushed = threads.map(_flush, paths)
        files = {
            path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest}
            for path, digest in zip(paths, threads.map(_sha256, paths), strict=True)
        }
        list(flushed)  # raises what has failed
    write_whole(folder / MANIFEST_FILE, json.dumps({**facts, "files": files}, indent=2) + "\n")
    for directory in {path.parent for path in _files(folder)}:
        _flush_folder(directory)


def read_manifest(checkpoint: Path) -> dict:
    """The manifest; a `DamagedCheckpointError` where there is none, or it is not whole."""
    try:
        manifest = json.loads((checkpoint / MANIFEST_FILE).read_text(encoding="utf-8"))
        return {**manifest, "files": dict(manifest["files"])}
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedCheckpointError(
            f"{checkpoint.name} has no {MANIFEST_FILE}: writing it was not finished."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise DamagedCheckpointError(f"{checkpoint.name}: its {MANIFEST_FILE} cannot be read.") from None


def verify(checkpoint: Path, content: bool = True) -> dict:
    """Check that a checkpoint is what was written; returns its manifest, or raises a `DamagedCheckpointError`.

    Without `content`, only files and their sizes are compared, and not their SHA-256.
    """
    manifest = read_manifest(checkpoint)
    for name, written in manifest["files"].items():
        path = checkpoint / name
        if not path.is_file():
            problem = "is missing"
        elif path.stat().st_size != written["bytes"]:
            problem = f"has {path.stat().st_size:,} bytes, {written['bytes']:,} were written"
        elif content and _sha256(path) != written["sha256"]:
            problem = "is not what was written (its SHA-256 differs): the disk or a copy has changed it"
        else:
            continue
        raise DamagedCheckpointError(f"{checkpoint.name}: {name} {problem}.")
    return manifest


def complete_checkpoints(run_folder: Path) -> list[Path]:
    """Those whose files are there in full length, the newest step first; their bytes are not read."""
    complete = []
    for checkpoint in checkpoints_in(run_folder):
        with contextlib.suppress(DamagedCheckpointError):
            verify(checkpoint, content=False)
            complete.append(checkpoint)
    return complete


def newest_complete(run_folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and why each newer one was passed over."""
    passed_over = []
    for checkpoint in checkpoints_in(run_folder):
        try:
            verify(checkpoint)
        except DamagedCheckpointError as error:
            passed_over.append(str(error))
        else:
            return checkpoint, passed_over
    return None, passed_over


def put_in_place(unfinished: Path, run_folder: Path) -> Path:
    """Rename a folder with a manifest to where checkpoints lie."""
    place = run_folder / unfinished.name
    unfinished.rename(place)
    _flush_folder(run_folder)
    return place


def move_files(source: Path, target: Path) -> None:
    """Move a folder's files into another, each replacing its namesake at once; then remove the folder."""
    for path in sorted(source.iterdir()):
        _flush(path)
        path.replace(target / path.name)
    source.rmdir()
    _flush_folder(target)


def put_aside_damaged(run_folder: Path, resumed: Path | None) -> None:
    """Clear the way for a run that goes on from a checkpoint: what was never finished goes, and damaged checkpoints get
    another name. Nothing complete is touched; only what is newer than the checkpoint is read for that."""
    shutil.rmtree(run_folder / UNFINISHED_FOLDER, ignore_errors=True)
    for checkpoint in checkpoints_in(run_folder):
        try:
            verify(checkpoint, content=resumed is None or step_of(checkpoint) > step_of(resumed))
        except DamagedCheckpointError:
            aside = run_folder / f"{DAMAGED_PREFIX}{checkpoint.name}"
            _remove(aside)
            checkpoint.rename(aside)


def rotate(run_folder: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest complete checkpoints beyond `limit`; the best and the newest always stay.

    Damaged ones do not count: a run could not be resumed from them.
    """
    if limit is None:
        return
    complete = complete_checkpoints(run_folder)
    kept = {*complete[:1], best}
    for checkpoint in complete:
        if len(kept & set(complete)) < limit:
            kept.add(checkpoint)
        elif checkpoint not in kept:
            # Out of the way first, so that a deletion that is cut off leaves nothing that looks like a checkpoint.
            old = run_folder / UNFINISHED_FOLDER / f"old-{checkpoint.name}"
            old.parent.mkdir(exist_ok=True)
            checkpoint.rename(old)
            _remove(old)


def _remove(path: Path) -> None:
    """Delete a folder, a file or a link, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST_FILE)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut; Windows opens no folders."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
