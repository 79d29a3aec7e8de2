"""SYNTH's rows out of a source, repaired."""

from collections.abc import Iterable, Iterator
from itertools import islice

from train.data.files.chunk import RowBatch
from train.data.files.shard_access import read_beginning, read_source
from train.data.files.sources import Source
from train.data.rows.synth import SYNTH_COLUMNS, Row, repair


def rows_of(source: Source) -> Iterator[Row]:
    """All readable rows in order; a file that cannot be read is a `BadShardError`."""
    return _repaired(read_source(source, SYNTH_COLUMNS))


def first_rows(source: Source, count: int) -> list[Row]:
    """The first so many readable rows; of a Hub dataset only the beginning is fetched."""
    return list(islice(_repaired(read_beginning(source, SYNTH_COLUMNS)), count))


def _repaired(batches: Iterable[RowBatch]) -> Iterator[Row]:
    for batch in batches:
        for row in batch.rows:
            repair(row)
            yield row
