"""The files of a source, fetched where they are on the Hub, checked and read."""

import logging
import math
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import HfFileSystem, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HTTPError,  # of whichever library the client is built on
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from train.data.files.checksums import sha256_of
from train.data.files.chunk import PAST_THE_END, BadShardError, Chunk, Columns, RowBatch
from train.data.files.shard_reading import check_first_row, read_chunk
from train.data.files.sources import Shard, Source


logger = logging.getLogger(__name__)

# Seconds before each further try, on top of those that huggingface_hub makes by itself: ten minutes in all.
WAITS = (1, 5, 30, 120, 450)


def read_source(source: Source, columns: Columns) -> Iterator[RowBatch]:
    """All rows of a source in order; a file that cannot be fetched or read is a `BadShardError`."""
    for number, shard in enumerate(source.shards):
        with tempfile.TemporaryDirectory() as folder:
            yield from read_shard(shard, Chunk(number, 0, 1), columns, Path(folder))


def read_beginning(source: Source, columns: Columns) -> Iterator[RowBatch]:
    """The same rows for who wants only the first: of a Hub dataset no more is fetched than is read."""
    for number, shard in enumerate(source.shards):
        with opened(shard) as file:
            yield from read_chunk(file, str(shard), Chunk(number, 0, 1), columns)


def check_beginning(shard: Shard, columns: Columns) -> None:
    """Refuse a file, by a `BadShardError`, whose columns or first row are not as they should be."""
    with opened(shard) as file:
        check_first_row(file, str(shard), columns)


def opened(shard: Shard) -> BinaryIO:
    """A file where it lies, on the disk or the Hub."""
    if shard.repository is None:
        return open(shard.name, "rb")
    return HfFileSystem().open(f"datasets/{shard.repository}@{shard.revision}/{shard.name}")


def read_shard(
    shard: Shard,
    chunk: Chunk,
    columns: Columns,
    folder: Path,
    place: int | None = None,
    skip_broken: bool = False,
    most_rows: float = math.inf,
) -> Iterator[RowBatch]:
    """The rows of a chunk of a file whose size and SHA-256 are those that its source states.

    Args:
        folder: where a Hub file is kept, until the caller removes it; what an interrupted download left there is used.
            No other process may use it at the same time.
        place, most_rows: as in `read_chunk`.
        skip_broken: end with a batch that says what cannot be read, in place of an error.

    Raises:
        BadShardError: the file is not what its source states, or cannot be fetched or read.
    """
    try:
        path = fetch(shard, folder)
        with open(path, "rb") as file:
            try:
                yield from read_chunk(file, str(shard), chunk, columns, place, most_rows)
            except BadShardError:
                check_content(path, shard)  # it may have changed under the reader
                raise
        check_content(path, shard)
    except BadShardError as error:
        if not skip_broken:
            raise
        logger.warning("Skipped: %s", error)
        yield RowBatch([], Counter(), PAST_THE_END, [f"part {chunk.part + 1} of {chunk.parts}: {error}"])


def fetch(shard: Shard, folder: Path) -> Path:
    """Where a checked file lies; a Hub file that is in no cache is downloaded into the folder, or a `BadShardError`."""
    if shard.repository is None:
        path = Path(shard.name)
    else:
        cached = try_to_load_from_cache(shard.repository, shard.name, revision=shard.revision, repo_type="dataset")
        if not isinstance(cached, str):
            return _download(shard, folder)
        path = Path(cached)
    check_content(path, shard)
    return path


def _download(shard: Shard, folder: Path) -> Path:
    """Download a file, again after a while where the Hub is not well."""
    assert shard.repository is not None
    for wait in (*WAITS, None):
        try:
            downloaded = hf_hub_download(
                shard.repository, shard.name, revision=shard.revision, repo_type="dataset", local_dir=folder
            )
            check_content(Path(downloaded), shard)
            return Path(downloaded)
        except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise BadShardError(f"{shard} is not on the Hub: {error}") from error  # waiting would not bring it
        except (OSError, HTTPError, BadShardError) as error:
            if isinstance(error, BadShardError):
                shutil.rmtree(folder, ignore_errors=True)  # else the same bytes would be found again
            if wait is None:
                raise BadShardError(f"{shard} could not be fetched in {len(WAITS) + 1} tries: {error}") from error
            logger.warning("%s: %s; trying again in %d s.", shard, error, wait)
            time.sleep(wait)
    raise AssertionError


def check_content(path: Path, shard: Shard) -> None:
    """Refuse a file that is gone, or whose size, SHA-256 or time of change differs from what the source states."""
    if not path.exists():
        raise BadShardError(f"{shard} is gone.")
    status = path.stat()
    if status.st_size != shard.bytes:
        raise BadShardError(f"{shard} has {status.st_size:,} bytes, {shard.bytes:,} are stated: fetch it again.")
    if shard.sha256 is not None:
        if sha256_of(path) != shard.sha256:
            raise BadShardError(f"{shard} is not what its source states, its SHA-256 differs: fetch it again.")
    elif shard.changed_ns not in (None, status.st_mtime_ns):
        raise BadShardError(f"{shard} has changed since this run found it: start again when nobody writes to it.")
