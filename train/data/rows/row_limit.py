"""Where reading ends: after so many usable rows, or so many training tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from train.data.files.shard_reading import RowBatch
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import TEXT_COLUMNS, Row


@dataclass(frozen=True)
class Limit:
    """What may still be used: rows of both parts, and training tokens; the row that reaches it is the last."""

    rows: int | None = None
    tokens: int | None = None

    def __bool__(self) -> bool:
        return self.rows is not None or self.tokens is not None

    def reached_by(self, statistics: DatasetStatistics) -> bool:
        rows, tokens = sum(statistics.kept_rows.values()), statistics.tokens["train"]
        return (self.rows is not None and rows >= self.rows) or (self.tokens is not None and tokens >= self.tokens)

    def less(self, statistics: DatasetStatistics) -> "Limit":
        """What is left after a statistics's rows."""
        rows = None if self.rows is None else self.rows - sum(statistics.kept_rows.values())
        return Limit(rows, None if self.tokens is None else self.tokens - statistics.tokens["train"])


NO_LIMIT = Limit()


def up_to(
    limit: Limit, batches: Iterable[RowBatch], statistics: DatasetStatistics, most_times: int
) -> Iterator[RowBatch]:
    """The batches, cut so small before the limit that no row after the one that reaches it is handed out.

    Args:
        statistics: of the rows that have been handed out, all but those of the last batch (which may be being tokenised
            while the next is asked for).
        most_times: how often a row may be used, at most.
    """
    if not limit:
        yield from batches
        return
    in_flight: list[Row] = []
    for batch in batches:
        rows, unreadable, read = batch.rows, batch.unreadable, batch.bytes
        while True:
            left = limit.less(statistics)
            if limit.reached_by(statistics):
                return
            n = _rows_that_fit(left, in_flight, rows, most_times)
            if n == 0 and not in_flight and rows:
                n = 1
            in_flight, rows = rows[:n], rows[n:]
            yield RowBatch(in_flight, unreadable, batch.next_place, 0 if rows else read, [] if rows else batch.skipped)
            unreadable = {}
            if not rows:
                break


def _rows_that_fit(left: Limit, in_flight: list[Row], rows: list[Row], most_times: int) -> int:
    """How many of the rows cannot pass what is left, whatever becomes of those in flight."""
    n = len(rows)
    if left.rows is not None:
        n = min(n, max(left.rows - len(in_flight), 0))
    if left.tokens is not None:
        room = left.tokens - sum(_most_tokens(row) for row in in_flight) * most_times
        for number, row in enumerate(rows[:n]):
            room -= _most_tokens(row) * most_times
            if room < 0:
                return number
    return n


def _most_tokens(row: Row) -> int:
    """A byte is a token at most; the words around the fields and the end of text are few."""
    return 4 * sum(len(row[column] or "") for column in TEXT_COLUMNS) + 32
