"""The rows of a file of JSON lines; what is wrong is named by its line."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from train.data.files.chunk import INVALID_UTF8, PAST_THE_END, BadShardError, Chunk, Columns, RowBatch


def read_json_lines(
    file: BinaryIO, name: str, chunk: Chunk, columns: Columns, place: int | None, rows_per_batch: int
) -> Iterator[RowBatch]:
    """As `read_chunk`."""
    # The end is only looked for where it is needed: it is far in a compressed file, or on the Hub.
    first, last = chunk.range_of(file.seek(0, 2) if chunk.parts > 1 else PAST_THE_END)
    if place is not None:
        file.seek(place)
    else:
        if names := first_names(file, name):
            columns.check_names(names, name)
        file.seek(max(first - 1, 0))
        if first > 0:  # a line belongs to the chunk that its first byte is in
            file.readline()
    rows: list[dict] = []
    unreadable: Counter[str] = Counter()
    while (at := file.tell()) < last and (line := file.readline()):
        try:
            text = _decode(line, at)
        except UnicodeDecodeError:
            unreadable[INVALID_UTF8] += 1
            continue
        if text.strip():
            rows.append(_parse_row(text, file, name, at, columns))
        if len(rows) == rows_per_batch:
            yield RowBatch(rows, unreadable, file.tell())
            rows, unreadable = [], Counter()
    if rows or unreadable:
        yield RowBatch(rows, unreadable, file.tell())


def first_names(file: BinaryIO, name: str) -> list[str]:
    """The names in a file's first row, of which an empty file has none; refused where it is none."""
    file.seek(0)
    at = 0
    while line := file.readline():
        text = _decode(line, at, errors="replace")
        if text.strip():
            return list(_parse_object(text, file, name, at))
        at += len(line)
    return []


def _decode(line: bytes, at: int, errors: str = "strict") -> str:
    return line.decode("utf-8-sig" if at == 0 else "utf-8", errors)


def _parse_row(text: str, file: BinaryIO, name: str, at: int, columns: Columns) -> dict[str, Any]:
    values = _parse_object(text, file, name, at)
    for column in columns.text:
        if not isinstance(values.get(column), str | None):
            raise BadShardError(
                f"{name}, line {_line_number(file, at)}: {column} is {json.dumps(values[column])[:60]}, a string or "
                "null is wanted."
            )
    return {**dict.fromkeys(columns.text), **{column: values[column] for column in columns.of(values)}}


def _parse_object(text: str, file: BinaryIO, name: str, at: int) -> dict[str, Any]:
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BadShardError(f"{name}, line {_line_number(file, at)} is no JSON ({error}): {text[:80]!r}") from error
    if not isinstance(values, dict):
        raise BadShardError(
            f"{name}, line {_line_number(file, at)} is no JSON object: {text[:80]!r}; `jq -c .[]` makes lines "
            "of an array."
        )
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} stands in it twice")
    return values


def _line_number(file: BinaryIO, at: int) -> int:
    """Counted only when something is wrong there."""
    file.seek(0)
    number = 1
    while file.tell() < at and file.readline():
        number += 1
    return number
