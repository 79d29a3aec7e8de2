"""A chunk of a file, and the batches of rows that are read from it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


BYTES_PER_CHUNK = 64 * 2**20  # large enough to be worth a process's start, small enough to be lost when one is killed
PAST_THE_END = 2**40  # a place after any file's last row
INVALID_UTF8 = "invalid UTF-8"


class BadShardError(ValueError):
    """A file that cannot be read, or is not what it should be; the message names the place."""


@dataclass(frozen=True)
class Chunk:
    """A part of a file: the `part`-th of `parts`, by rows (parquet) or bytes (JSON lines)."""

    shard: int  # the file's number in the source
    part: int
    parts: int
    shards: int = 1  # above 1, the chunk holds so many whole files from `shard` on

    @property
    def name(self) -> str:
        together = f"+{self.shards - 1}" if self.shards > 1 else ""
        return f"{self.shard:05}{together}-{self.part:04}-of-{self.parts:04}"

    def range_of(self, total: int) -> tuple[int, int]:
        """Its first row or byte, and the first one after it, of so many in the file."""
        return total * self.part // self.parts, total * (self.part + 1) // self.parts


def chunks_of(shard: int, shard_bytes: int) -> tuple[Chunk, ...]:
    """A file in chunks of about `BYTES_PER_CHUNK`."""
    parts = max(-(-shard_bytes // BYTES_PER_CHUNK), 1)
    return tuple(Chunk(shard, part, parts) for part in range(parts))


@dataclass
class RowBatch:
    """Rows in order."""

    rows: list[dict[str, Any]]  # the readable ones
    unreadable: Counter[str]  # counts of the others, by reason
    next_place: int  # where to go on: the number of the next row (parquet), or of the next byte (JSON lines)
    skipped: list[str] = field(default_factory=list)  # what could not be read after them and is left out


@dataclass(frozen=True)
class Columns:
    """The columns that are read; a file has others, too."""

    text: tuple[str, ...] = ()  # they hold strings or null; one that is not in a row is null
    other: tuple[str, ...] | None = ()  # they hold anything, and may be absent; `None` stands for all other columns
    forms: tuple[tuple[str, ...], ...] = ()  # a file has all columns of one of these
    separator: str | None = None  # what parts the documents of a text file, each of which is a row

    def of(self, names: Iterable[str]) -> list[str]:
        """Those of these columns that are read."""
        return [name for name in names if name in self.text or self.other is None or name in self.other]

    def check_names(self, names: list[str], file_name: str) -> None:
        """Refuse a file of no form, by what it has and what it lacks."""
        missing = [", ".join(column for column in form if column not in names) for form in self.forms]
        if missing and all(missing):
            raise BadShardError(
                f"{file_name} has no column {' or '.join(missing)}; it has {', '.join(names) or 'none'}. Rename yours, "
                "or add columns of null values."
            )
