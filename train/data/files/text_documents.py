"""The documents of a text file: what stands between separators, or passages of a few pages.

A document begins at a place that the bytes around it decide alone. So a file can be read in any number of parts, and
from any place on, and its documents stay the same.
"""

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from train.data.files.chunk import INVALID_UTF8, PAST_THE_END, Chunk, Columns, RowBatch


TEXT_COLUMN = "text"  # of the rows that are made of a text file
# About two contexts of GPT-2: cutting there costs little, and a single book fills both parts of the data.
PASSAGE_BYTES = 8192
BYTES_AT_ONCE = 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def is_text(name: str) -> bool:
    return name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".txt")


def read_text_documents(
    file: BinaryIO, name: str, chunk: Chunk, columns: Columns, place: int | None, rows_per_batch: int
) -> Iterator[RowBatch]:
    """As `read_chunk`; each row has one document in the column `text`."""
    columns.check_names([TEXT_COLUMN], name)
    first, last = chunk.range_of(file.seek(0, 2) if chunk.parts > 1 else PAST_THE_END)
    first = first if place is None else place
    if columns.separator is None:
        documents = _passages(file, first, last)
    else:
        documents = _separated(file, first, last, columns.separator.encode())
    rows: list[dict] = []
    unreadable: Counter[str] = Counter()
    for next_place, content in documents:
        try:
            rows.append({**dict.fromkeys(columns.text), TEXT_COLUMN: content.removeprefix(BYTE_ORDER_MARK).decode()})
        except UnicodeDecodeError:
            unreadable[INVALID_UTF8] += 1
        if len(rows) == rows_per_batch:
            yield RowBatch(rows, unreadable, next_place)
            rows, unreadable = [], Counter()
    if rows or unreadable:
        yield RowBatch(rows, unreadable, last)


def _passages(file: BinaryIO, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Each passage, after the place that the next one is found from.

    Passage k begins at the first line that begins after byte k * `PASSAGE_BYTES`, or word, where lines are longer.
    """
    number = -(-first // PASSAGE_BYTES)
    file.seek(number * PASSAGE_BYTES)
    window = file.read(PASSAGE_BYTES)
    begin = _first_cut(window) if number else 0
    while window and number * PASSAGE_BYTES < last:
        following = file.read(PASSAGE_BYTES)
        end = _first_cut(following)
        number += 1
        yield number * PASSAGE_BYTES, window[begin:] + following[:end]
        window, begin = following, end


def _first_cut(window: bytes) -> int:
    for mark in (b"\n", b" "):
        if mark in window:
            return window.index(mark) + 1
    at = 0
    while at < len(window) and window[at] & 0xC0 == 0x80:  # within a character
        at += 1
    return at


def _separated(file: BinaryIO, first: int, last: int, separator: bytes) -> Iterator[tuple[int, bytes]]:
    """Each document that begins in `[first, last)`, after the place that the next one is found from: its end.

    One begins at the file's beginning, and at the end of each run of separators, which may overlap, as in blank lines.
    """
    width = len(separator)
    at = max(first - width, 0)  # where the buffer begins
    file.seek(at)
    buffer = bytearray()
    begin: int | None = 0 if first == 0 else None  # of the document that is being read, in the buffer
    search = 0
    whole = False
    while True:
        found = buffer.find(separator, search)
        # A separator ends its run if no other begins before its end or at it.
        if found >= 0 and (whole or found + 2 * width <= len(buffer)):
            search = found + 1
            if buffer.find(separator, search, found + 2 * width) >= 0:
                continue
            end = found + width
            if begin is not None and (content := bytes(buffer[begin:end].partition(separator)[0])):
                yield at + end - width, content
            if at + end >= last:
                return
            begin = end
            continue
        if whole:
            if begin is not None and begin < len(buffer):
                yield PAST_THE_END, bytes(buffer[begin:])
            return
        search = max(len(buffer) - 2 * width, search) if found < 0 else found
        drop = search if begin is None else begin
        del buffer[:drop]
        at, search, begin = at + drop, search - drop, None if begin is None else 0
        more = file.read(BYTES_AT_ONCE)
        whole = not more
        buffer += more
