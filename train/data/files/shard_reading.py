"""Rows out of one file, a batch at a time and from any place in it; what cannot be read is refused by its place."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from train.data.files.chunk import BadShardError, Chunk, Columns, RowBatch
from train.data.files.json_lines import first_names, read_json_lines
from train.data.files.parquet_rows import is_parquet, open_parquet, read_parquet
from train.data.files.text_documents import TEXT_COLUMN, is_text, read_text_documents
from train.data.files.zstd import ZstdError, ZstdFile


ROWS_PER_BATCH = 1000
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # at a file's beginning
# What stands in a data file's place after a failed download or checkout, or needs another tool first.
NO_ROWS = {
    b"version https://git-lfs.github.com/spec": "a Git LFS pointer, not the data: run `git lfs pull` at its clone",
    # Python's readers of these pass over what is damaged after the end of a first stream.
    b"BZh": "compressed by bzip2: decompress it, or compress it with gzip",
    b"\xfd7zXZ\0": "compressed by xz: decompress it, or compress it with gzip",
    b"PARE": "an encrypted parquet file: decrypt it",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\xff\xfe": "UTF-16: make it UTF-8 (`iconv -f utf-16 -t utf-8`)",
    b"\xfe\xff": "UTF-16: make it UTF-8 (`iconv -f utf-16 -t utf-8`)",
}


def read_chunk(
    file: BinaryIO, name: str, chunk: Chunk, columns: Columns, place: int | None = None, most_rows: float = math.inf
) -> Iterator[RowBatch]:
    """The rows of a chunk in order.

    Args:
        name: what to call the file in messages; its ending tells what it holds.
        place: a `next_place` to go on from; the chunk's beginning where `None`. In a compressed file it counts the
            decompressed bytes, and what is before it is decompressed again.
        most_rows: in a batch.

    Raises:
        BadShardError: the file is empty, torn, of another kind, lacks columns, or has one of another type; names the
            file, the row group or line, the column, what was found and what is wanted.
    """
    read = read_parquet if is_parquet(name) else read_text_documents if is_text(name) else read_json_lines
    with decompressed(file, name) as rows:
        yield from read(rows, name, chunk, columns, place, int(min(most_rows, ROWS_PER_BATCH)))


def names_in(file: BinaryIO, name: str) -> list[str]:
    """The columns of a file (of JSON lines, the names in the first line), of which no more is read than shows them; a
    `BadShardError` where it holds no rows."""
    with decompressed(file, name) as rows:
        if is_text(name):
            return [TEXT_COLUMN]
        return open_parquet(rows, name, Columns()).schema_arrow.names if is_parquet(name) else first_names(rows, name)


def check_first_row(file: BinaryIO, name: str, columns: Columns) -> None:
    """Refuse a file whose columns or first row are not as they should be; of a text, which may be one long row, none
    is read."""
    if is_text(name):
        columns.check_names([TEXT_COLUMN], name)
    else:
        next(read_chunk(file, name, Chunk(0, 0, 1), columns, most_rows=1), None)


@contextmanager
def decompressed(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """A file as its rows stand in it, refused where it holds none."""
    file.seek(0)
    beginning = file.read(512)
    file.seek(0)
    for mark, what in NO_ROWS.items():
        if beginning.startswith(mark):
            raise BadShardError(f"{name} is {what}.")
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        raise BadShardError(f"{name} is an HTML page and not data: the download failed, fetch it again.")
    if is_parquet(name) and not beginning.startswith(b"PAR1"):
        raise BadShardError(f"{name} is no parquet file: it begins with {beginning[:4]!r}, b'PAR1' is wanted.")
    if not beginning.startswith((GZIP, ZSTD)):
        yield file
        return
    try:
        # Both can seek, by decompressing again from the beginning.
        yield io.BufferedReader(gzip.GzipFile(fileobj=file) if beginning.startswith(GZIP) else ZstdFile(file))
    except (EOFError, gzip.BadGzipFile, zlib.error, ZstdError) as error:
        raise BadShardError(
            f"{name} is torn or damaged, it cannot be decompressed ({error}): fetch it again."
        ) from error
