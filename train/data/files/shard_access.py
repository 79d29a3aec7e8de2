"""A file of rows at hand and checked: where it lies, or fetched from the Hub for as long as it is read."""

import hashlib
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import HfFileSystem, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HTTPError,  # of whichever library the client is built on
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from train.data.files.shard_reading import (
    PAST_THE_END,
    BadShardError,
    Chunk,
    RowBatch,
    batch_to_rows,
    check_parquet,
    parse_line,
    read_chunk,
)
from train.data.files.sources import Shard, Source
from train.data.rows.synth import COLUMNS, Row, repair


logger = logging.getLogger(__name__)

# Seconds before each further try, on top of those that huggingface_hub makes by itself: ten minutes in all.
WAITS = (1, 5, 30, 120, 450)


def read_shard(
    shard: Shard,
    chunk: Chunk,
    folder: Path,
    place: int | None = None,
    skip_broken: bool = False,
    most_rows: float = math.inf,
) -> Iterator[RowBatch]:
    """The rows of a chunk of a file whose size and SHA-256 are those that its source states.

    Args:
        folder: where a Hub file is kept, until the caller removes it; what an interrupted download left there is used.
            No other process may use it at the same time.
        place: a `next_place` to go on from; the chunk's beginning where `None`.
        skip_broken: end with a batch that says what cannot be read, in place of an error.
        most_rows: in a batch.

    Raises:
        BadShardError: it is not what its source states, or cannot be fetched or read.
    """
    try:
        path = fetch(shard, folder)
        yield from read_chunk(path, str(shard), chunk, place, most_rows)
    except BadShardError as error:
        if not skip_broken:
            raise
        logger.warning("Skipped: %s", error)
        yield RowBatch([], {}, PAST_THE_END, [f"part {chunk.part + 1} of {chunk.parts}: {error}"])


def fetch(shard: Shard, folder: Path) -> Path:
    """Where a file lies; a Hub file that is in no cache is downloaded into the folder.

    Raises:
        BadShardError: it is not what its source states, or cannot be fetched.
    """
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
    """Download a file, again after a while where the Hub is not well.

    Raises:
        BadShardError: it failed each time; the last cause is in the message.
    """
    for wait in (*WAITS, None):
        try:
            assert shard.repository is not None
            path = Path(
                hf_hub_download(
                    shard.repository, shard.name, revision=shard.revision, repo_type="dataset", local_dir=folder
                )
            )
            check_content(path, shard)
            return path
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
    """Compare size and SHA-256 with what the source states.

    Raises:
        BadShardError: they differ, or there is no such file any more.
    """
    if not path.exists():
        raise BadShardError(f"{shard} is gone.")
    status = path.stat()
    if status.st_size != shard.bytes:
        raise BadShardError(f"{shard} has {status.st_size:,} bytes, {shard.bytes:,} are stated: fetch it again.")
    if shard.sha256 is not None and _sha256(path, status.st_mtime_ns) != shard.sha256:
        raise BadShardError(f"{shard} is not what its source states, its SHA-256 differs: fetch it again.")


@cache
def _sha256(path: Path, changed: int) -> str:
    """Computed once for all chunks of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rows_of(source: Source) -> Iterator[Row]:
    """All readable rows of a source in order, repaired.

    Raises:
        BadShardError: a file cannot be read.
    """
    for number, shard in enumerate(source.shards):
        with tempfile.TemporaryDirectory() as folder:
            for batch in read_shard(shard, Chunk(number, 0, 1), Path(folder, "fetched")):
                for row in batch.rows:
                    repair(row)
                    yield row


def first_rows(source: Source, count: int) -> list[Row]:
    """The first so many readable rows, repaired; of a Hub dataset only the beginning is fetched."""
    rows = rows_of(source) if source.revision is None else _beginning_of(source)
    return list(islice(rows, count))


def _beginning_of(source: Source) -> Iterator[Row]:
    """Rows of a Hub dataset, a row group or a line at a time.

    Nothing is read on Arrow's threads (as `datasets` has it do): one that still holds a chunk of a Python file when
    Python ends aborts the process.

    Raises:
        BadShardError: a file cannot be read.
    """
    for shard in source.shards:
        with HfFileSystem().open(f"datasets/{shard.repository}@{shard.revision}/{shard.name}") as file:
            for row in _parquet_rows(file, str(shard)) if shard.kind == ".parquet" else _json_rows(file, str(shard)):
                repair(row)
                yield row


def _parquet_rows(file: BinaryIO, name: str) -> Iterator[Row]:
    parquet = check_parquet(file, name, pre_buffer=False)
    columns = [column for column in COLUMNS if column in parquet.schema_arrow.names]
    for group in range(parquet.num_row_groups):
        for batch in parquet.read_row_group(group, columns=columns, use_threads=False).to_batches():
            yield from batch_to_rows(batch)[0]


def _json_rows(file: BinaryIO, name: str) -> Iterator[Row]:
    at = 0
    for line in file:
        row = parse_line(line, file, name, at)
        at += len(line)
        if row:
            yield row
