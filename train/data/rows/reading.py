"""The rows of a source, repaired."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from train.data.files.chunk import RowBatch
from train.data.files.shard_access import read_beginning, read_source
from train.data.files.sources import Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import SYNTH, Schema
from train.data.rows.synth import Row, Split


logger = logging.getLogger(__name__)


def rows_of(source: Source, schema: Schema = SYNTH) -> Iterator[Row]:
    """All readable rows in order; a file that cannot be read is a `BadShardError`."""
    return _repaired(read_source(source, schema.columns), schema)


def usable_rows_of(source: Source, schema: Schema = SYNTH) -> Iterator[Row]:
    """The usable rows in order; when all are read, the log counts the others."""
    left_out: Counter[str] = Counter()
    for batch in read_source(source, schema.columns):
        left_out.update(batch.unreadable)
        for row in _repaired([batch], schema):
            if (reason := schema.reason_to_drop(row)) is None:
                yield row
            else:
                left_out[reason] += 1
    if left_out:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.most_common())
        logger.warning("%s: %s rows are left out (%s).", source.name, f"{left_out.total():,}", reasons)


def texts_of(
    source: Source, row_filter: RowFilter, max_rows: int | None = None
) -> Iterator[tuple[str, str | None, Split]]:
    """The training texts of the rows that a filter keeps, with their language, where a column says it, and part."""
    judged = ((row, *row_filter.judge(row)) for row in rows_of(source, row_filter.schema))
    usable = ((row, split) for row, reason, split, _ in judged if reason is None)
    for row, split in islice(usable, max_rows):
        for text in row_filter.schema.to_texts(row):
            yield text, row.get("language"), split


def first_rows(source: Source, count: int, schema: Schema = SYNTH) -> list[Row]:
    """The first so many readable rows; of a Hub dataset only the beginning is fetched."""
    return list(islice(_repaired(read_beginning(source, schema.columns), schema), count))


def _repaired(batches: Iterable[RowBatch], schema: Schema) -> Iterator[Row]:
    for batch in batches:
        for row in batch.rows:
            schema.repair(row)
            yield row
