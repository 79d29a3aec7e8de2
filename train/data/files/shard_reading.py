"""Rows out of one file, a batch at a time and from any place in it; what cannot be read is refused by its place."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from train.data.files.chunk import BadShardError, Chunk, Columns, RowBatch
from train.data.files.json_lines import check_first_line, read_json_lines
from train.data.files.parquet_rows import open_parquet, read_parquet


ROWS_PER_BATCH = 1000


def read_chunk(
    file: BinaryIO, name: str, chunk: Chunk, columns: Columns, place: int | None = None, most_rows: float = math.inf
) -> Iterator[RowBatch]:
    """The rows of a chunk in order.

    Args:
        name: what to call the file in messages; its ending tells what it holds.
        place: a `next_place` to go on from; the chunk's beginning where `None`.
        most_rows: in a batch.

    Raises:
        BadShardError: the file is empty, torn, of another kind, lacks columns, or has one of another type; names the
            file, the row group or line, the column, what was found and what is wanted.
    """
    check_kind(file, name)
    read = read_parquet if is_parquet(name) else read_json_lines
    yield from read(file, name, chunk, columns, place, int(min(most_rows, ROWS_PER_BATCH)))


def check_file(path: Path, name: str, columns: Columns) -> None:
    """Refuse what shows without reading all of a file: its kind, its footer, its columns and their types."""
    with open(path, "rb") as file:
        check_kind(file, name)
        check = open_parquet if is_parquet(name) else check_first_line
        check(file, name, columns)


def check_kind(file: BinaryIO, name: str) -> None:
    """Refuse what stands in a data file's place after a failed download or checkout."""
    file.seek(0)
    beginning = file.read(512)
    file.seek(0)
    if beginning.startswith(b"version https://git-lfs.github.com/spec"):
        raise BadShardError(f"{name} is a Git LFS pointer and not the data: run `git lfs pull` where it was cloned.")
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        raise BadShardError(f"{name} is an HTML page and not data: the download failed, fetch it again.")
    if is_parquet(name) and not beginning.startswith(b"PAR1"):
        raise BadShardError(f"{name} is no parquet file: it begins with {beginning[:4]!r}, b'PAR1' is wanted.")


def is_parquet(name: str) -> bool:
    return name.endswith(".parquet")
