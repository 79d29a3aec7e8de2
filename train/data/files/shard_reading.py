"""Rows out of one file, a batch at a time and from any place in it; what cannot be read is refused by its place."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.rows.synth import COLUMNS, OPTIONAL_COLUMNS, Row


ROWS_PER_BATCH = 1000
PAST_THE_END = 2**40  # a place after any file's last row
BYTES_PER_CHUNK = 64 * 2**20  # large enough to be worth a process's start, small enough to be lost when one is killed
INVALID_UTF8 = "invalid UTF-8"


class BadShardError(ValueError):
    """A file that cannot be read, or is not what it should be; the message names the place."""


@dataclass(frozen=True)
class Chunk:
    """A part of a file: the `part`-th of `parts`, by rows (parquet) or bytes (JSON lines).

    Args:
        shard: the file's number in the source.
    """

    shard: int
    part: int
    parts: int

    @property
    def name(self) -> str:
        return f"{self.shard:05}-{self.part:04}-of-{self.parts:04}"


@dataclass
class RowBatch:
    """Rows in order.

    Args:
        rows: the readable ones.
        unreadable: counts of the others, by reason.
        next_place: where to go on: the number of the next row (parquet), or of the next byte (JSON lines).
        skipped: what could not be read after them and is left out.
    """

    rows: list[Row]
    unreadable: dict[str, int]
    next_place: int
    skipped: list[str] = field(default_factory=list)


def chunks_of(shard: int, shard_bytes: int, at_least: int = 1) -> list[Chunk]:
    """A file in chunks of about `BYTES_PER_CHUNK`, `at_least` so many."""
    parts = max(at_least, -(-shard_bytes // BYTES_PER_CHUNK), 1)
    return [Chunk(shard, part, parts) for part in range(parts)]


def read_chunk(
    path: Path, name: str, chunk: Chunk, place: int | None = None, most_rows: float = math.inf
) -> Iterator[RowBatch]:
    """The rows of a chunk in order.

    Args:
        path: the file to read.
        name: what to call it in messages.
        place: a `next_place` to go on from; the chunk's beginning where `None`.
        most_rows: in a batch.

    Raises:
        BadShardError: the file is empty, torn, of another kind, lacks columns, or has one of another type; names the
            file, the row group or line, the column, what was found and what is wanted.
    """
    check_kind(path, name)
    reader = _read_parquet if path.suffix == ".parquet" else _read_json_lines
    yield from reader(path, name, chunk, place, int(min(most_rows, ROWS_PER_BATCH)))


def check_kind(path: Path, name: str) -> None:
    """Refuse what stands in a data file's place after a failed download or checkout."""
    with open(path, "rb") as file:
        beginning = file.read(512)
    if beginning.startswith(b"version https://git-lfs.github.com/spec"):
        raise BadShardError(f"{name} is a Git LFS pointer and not the data: run `git lfs pull` where it was cloned.")
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        raise BadShardError(f"{name} is an HTML page and not data: the download failed, fetch it again.")
    if path.suffix == ".parquet" and not beginning.startswith(b"PAR1"):
        raise BadShardError(f"{name} is no parquet file: it begins with {beginning[:4]!r}, b'PAR1' is wanted.")


def check_file(path: Path, name: str) -> None:
    """Refuse what shows without reading all of a file: its kind, its footer, its columns and their types.

    Raises:
        BadShardError: what is wrong.
    """
    if path.suffix == ".parquet":
        open_parquet(path, name).close()
    else:
        check_kind(path, name)
        _check_first_line(path, name)


def check_columns(found: list[str], name: str) -> None:
    missing = [column for column in COLUMNS if column not in found and column not in OPTIONAL_COLUMNS]
    if missing:
        raise BadShardError(
            f"{name} has no column {', '.join(missing)}; it has {', '.join(found) or 'none'}. Rows need SYNTH's "
            f"columns: {', '.join(COLUMNS)} (rename yours, or add them with null values)."
        )


def open_parquet(path: Path, name: str) -> pq.ParquetFile:
    """A parquet file whose footer and columns are as they should be.

    Raises:
        BadShardError: they are not.
    """
    check_kind(path, name)
    return check_parquet(path, name)


def check_parquet(source: Path | BinaryIO, name: str, pre_buffer: bool = True) -> pq.ParquetFile:
    """A parquet file, as `open_parquet`, of which nothing has been looked at yet.

    Args:
        pre_buffer: read ahead on Arrow's threads.
    """
    try:
        file = pq.ParquetFile(source, pre_buffer=pre_buffer, page_checksum_verification=True)  # where it has such sums
    except (pa.ArrowException, OSError) as error:
        raise BadShardError(
            f"{name} is torn or damaged, its footer cannot be read ({error}): fetch it again."
        ) from error
    schema = file.schema_arrow
    check_columns(schema.names, name)
    for column in set(COLUMNS) & set(schema.names):
        if not _is_text(schema.field(column).type):
            raise BadShardError(f"{name}: column {column} holds {schema.field(column).type}, string is wanted.")
    return file


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    )


def _read_parquet(path: Path, name: str, chunk: Chunk, place: int | None, rows_per_batch: int) -> Iterator[RowBatch]:
    with open_parquet(path, name) as file:
        total = file.metadata.num_rows
        first = total * chunk.part // chunk.parts if place is None else place
        last = total * (chunk.part + 1) // chunk.parts
        columns = [column for column in COLUMNS if column in file.schema_arrow.names]
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            if end > first and begin < last:
                row = begin
                try:
                    for batch in file.iter_batches(rows_per_batch, row_groups=[group], columns=columns):
                        skipped = min(max(first - row, 0), len(batch))
                        row += len(batch)
                        wanted = batch.slice(skipped, len(batch) - skipped - max(row - last, 0))
                        if len(wanted):
                            rows, unreadable = batch_to_rows(wanted)
                            yield RowBatch(rows, unreadable, min(row, last))
                        if row >= last:
                            break
                except (pa.ArrowException, OSError) as error:
                    raise BadShardError(
                        f"{name}, row group {group} (rows {begin:,} to {end - 1:,}) cannot be read ({error}): the file "
                        "is damaged, fetch it again."
                    ) from error
            begin = end


def batch_to_rows(batch: pa.RecordBatch) -> tuple[list[Row], dict[str, int]]:
    """Readable rows with all of SYNTH's columns, and counts of the others, by reason."""
    absent = {column: None for column in COLUMNS if column not in batch.schema.names}
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        return _decode_each(batch, absent)
    return [{**row, **absent} for row in rows] if absent else rows, {}


def _decode_each(batch: pa.RecordBatch, absent: dict[str, None]) -> tuple[list[Row], dict[str, int]]:
    """Row by row, where some text is no UTF-8: arrow does not look at what a file says is text."""
    columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch]
    raw = [column.cast(pa.large_binary()).to_pylist() for column in columns]
    rows, invalid = [], 0
    for values in zip(*raw, strict=True):
        try:
            texts = [None if value is None else value.decode() for value in values]
        except UnicodeDecodeError:
            invalid += 1
        else:
            rows.append({**dict(zip(batch.schema.names, texts, strict=True)), **absent})
    return rows, {INVALID_UTF8: invalid}


def _read_json_lines(path: Path, name: str, chunk: Chunk, place: int | None, rows_per_batch: int) -> Iterator[RowBatch]:
    size = path.stat().st_size
    first, last = size * chunk.part // chunk.parts, size * (chunk.part + 1) // chunk.parts
    rows: list[Row] = []
    unreadable: dict[str, int] = {}
    with open(path, "rb") as file:
        if place is not None:
            file.seek(place)
        else:
            _check_first_line(path, name)
            if first > 0:  # a line belongs to the chunk that its first byte is in
                file.seek(first - 1)
                file.readline()
        while (at := file.tell()) < last and (line := file.readline()):
            row = parse_line(line, file, name, at)
            if row is None:
                unreadable[INVALID_UTF8] = unreadable.get(INVALID_UTF8, 0) + 1
            elif row:
                rows.append(row)
            if len(rows) == rows_per_batch:
                yield RowBatch(rows, unreadable, file.tell())
                rows, unreadable = [], {}
        if rows or unreadable:
            yield RowBatch(rows, unreadable, file.tell())


def _check_first_line(path: Path, name: str) -> None:
    """Columns that the first row lacks are not in the file; where later rows leave one out, it is null."""
    at = 0
    with open(path, "rb") as file:
        for line in file:
            text = line.decode(errors="replace").removeprefix("\ufeff")
            if text.strip():
                check_columns(list(_parse_object(text, file, name, at)), name)
                return
            at += len(line)


def parse_line(line: bytes, file: BinaryIO, name: str, at: int) -> Row | None:
    """The row of a line; empty for an empty line, `None` for one that is no UTF-8.

    Args:
        file: the line's; looked into again where something is wrong.
        at: the place of the line's first byte in it.

    Raises:
        BadShardError: the line is no JSON object, or has a value of another type than text.
    """
    try:
        text = line.decode("utf-8-sig" if at == 0 else "utf-8")
    except UnicodeDecodeError:
        return None
    if not text.strip():
        return {}
    values = _parse_object(text, file, name, at)
    for column in COLUMNS:
        if not isinstance(values.get(column), str | None):
            raise BadShardError(
                f"{name}, line {_line_number(file, at)}: {column} is {json.dumps(values[column])[:60]}, a string or "
                "null is wanted."
            )
    return {column: values.get(column) for column in COLUMNS}


def _parse_object(text: str, file: BinaryIO, name: str, at: int) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadShardError(f"{name}, line {_line_number(file, at)} is no JSON ({error}): {text[:80]!r}") from error
    if not isinstance(values, dict):
        raise BadShardError(f"{name}, line {_line_number(file, at)} is no JSON object: {text[:80]!r}")
    return values


def _line_number(file: BinaryIO, at: int) -> int:
    """Counted only when something is wrong there."""
    file.seek(0)
    number = 1
    while at > 0 and (chunk := file.read(min(at, 2**20))):
        number += chunk.count(b"\n")
        at -= len(chunk)
    return number
