"""Rows of any form, out of the files of a source."""

from collections.abc import Iterator

from train.data.files.chunk import Columns
from train.data.files.shard_access import read_source
from train.data.files.sources import Source
from train.data.rows.synth import COLUMNS, Row
from train.post_training.data.statistics import RowStatistics


# Each is one way of writing a row; SYNTH's other columns may be absent.
SYNTH_FORM = ("query", "synthetic_answer")
FORMS = {
    "sft": (SYNTH_FORM, ("messages",), ("conversations",), ("prompt", "completion")),
    "dpo": (("chosen", "rejected"), SYNTH_FORM),
    "grpo": (SYNTH_FORM,),
}
READ_COLUMNS = (*COLUMNS, "messages", "conversations", "prompt", "completion", "chosen", "rejected")


def read_rows(source: Source, method: str, statistics: RowStatistics) -> Iterator[Row]:
    """All rows of a source in order, with those of `READ_COLUMNS` that it has.

    Args:
        statistics: counts the rows that cannot be read.

    Raises:
        BadShardError: a file cannot be read, or has no columns that the method could use; names the place.
    """
    for batch in read_source(source, Columns(other=READ_COLUMNS, forms=FORMS[method])):
        statistics.rows_read += sum(batch.unreadable.values())
        statistics.dropped_rows.update(batch.unreadable)
        yield from batch.rows
