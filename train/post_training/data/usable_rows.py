"""The rows of a source that post-training can use, and the part that each belongs to."""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import islice

from train.data.files.chunk import Columns
from train.data.files.shard_access import read_source
from train.data.files.sources import Source
from train.data.rows.conversations import Message, UnusableRowError, is_synth, row_to_messages
from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import COLUMNS, Row, Split, articles, part_of
from train.post_training.data.statistics import RowStatistics


SYNTH_FORM = ("query", "synthetic_answer")  # SYNTH's other columns may be absent
FORMS = {
    "sft": (SYNTH_FORM, ("messages",), ("conversations",), ("prompt", "completion")),
    "dpo": (("chosen", "rejected"), SYNTH_FORM),
    "grpo": (SYNTH_FORM,),
}
READ_COLUMNS = (*COLUMNS, "messages", "conversations", "prompt", "completion", "chosen", "rejected")
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class UsableRow:
    row: Row  # as the source has it
    split: Split
    articles: list[str]  # rows that share one are in the same part: a seed and links, or the first message
    messages: list[Message]  # its conversation; empty for a row with `chosen` and `rejected`, which has two
    changes: list[str]  # what was changed in it, in words


def columns_of(method: str) -> Columns:
    """Those that a method reads."""
    return Columns(other=READ_COLUMNS, forms=FORMS[method])


def usable_rows(
    source: Source,
    method: str,
    row_filter: RowFilter,
    max_samples: int | None,
    statistics: RowStatistics,
    held_out: Set[str] = frozenset(),
) -> Iterator[list[UsableRow]]:
    """The usable rows of a source in order, many at a time, until `max_samples` are kept.

    Args:
        statistics: counts the rows read and dropped; who is given the rows counts the kept ones.
        held_out: articles of a validation set, whose rows are dropped here.

    Raises:
        BadShardError: a file cannot be read, or has no columns that the method could use.
    """
    rows, before = _read_rows(source, method, statistics), statistics.kept_rows.total()
    while True:
        # Never more than are still wanted, so that none is read in vain.
        left = ROWS_AT_ONCE if max_samples is None else max_samples + before - statistics.kept_rows.total()
        some = list(islice(rows, min(ROWS_AT_ONCE, left)))
        if not some:
            return
        statistics.rows_read += len(some)
        usable = []
        for row in some:
            statistics.read(row)
            try:
                usable.append(_judge(row, row_filter, held_out))
            except UnusableRowError as error:
                statistics.dropped_rows[str(error)] += 1
        yield usable


def _read_rows(source: Source, method: str, statistics: RowStatistics) -> Iterator[Row]:
    for batch in read_source(source, columns_of(method)):
        statistics.rows_read += sum(batch.unreadable.values())
        statistics.dropped_rows.update(batch.unreadable)
        yield from batch.rows


def _judge(row: Row, row_filter: RowFilter, held_out: Set[str]) -> UsableRow:
    if (reason := row_filter.reason_by_kind(row)) is not None:
        raise UnusableRowError(reason)
    messages, changes = list[Message](), list[str]()
    if row.get("chosen") is not None and row.get("rejected") is not None:
        found = [_first_message(row)]
    elif is_synth(row):
        row = {**dict.fromkeys(COLUMNS), **row}
        messages, changes = row_to_messages(row)
        found = articles(row)
    else:
        messages, changes = row_to_messages(row)
        found = [next(message["content"] for message in messages if message["role"] == "user")]
    if not held_out.isdisjoint(found):
        raise UnusableRowError("in the validation set")
    split = part_of(found, row_filter.validation_fraction, row_filter.split_seed)
    if split is None:
        raise UnusableRowError("links to articles of both parts")
    return UsableRow(row, split, found, messages, changes)


def _first_message(row: Row) -> str:
    """The prompt of a row with `chosen` and `rejected`, or the first message that both share."""
    question = row.get("prompt") or row["chosen"]
    first = question[0] if isinstance(question, list) and question else question
    return str(first.get("content")) if isinstance(first, dict) else str(first)
