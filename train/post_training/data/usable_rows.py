"""Which rows are trained on, which are held out, and which are neither."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from train.data.files.sources import Source
from train.data.rows.synth import COLUMNS, Row, Split, article_key, articles, seed_article, split_of
from train.post_training.data.conversations import Message, UnusableRowError, first_question, is_synth, row_to_messages
from train.post_training.data.data import RowStatistics
from train.post_training.data.rows import read_rows
from train.post_training.settings.arguments import RowsArguments


ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Chosen:
    """
    Args:
        row: as the source has it.
        messages: its conversation; empty for a row of preferences, which has two.
        changes: what was changed in it, in words.
    """

    row: Row
    split: Split
    messages: list[Message]
    changes: list[str]


def choose_rows(
    source: Source, method: str, settings: RowsArguments, statistics: RowStatistics
) -> Iterator[list[Chosen]]:
    """The usable rows of a source in order, many at a time, until `max_samples` are kept.

    Args:
        statistics: counts the rows read and dropped; who is given the rows counts what is kept of them.
    """
    rows = read_rows(source, method)
    while True:
        # Never more than are still wanted, so that none is read in vain.
        wanted = ROWS_AT_ONCE
        if settings.max_samples is not None:
            wanted = min(wanted, settings.max_samples - sum(statistics.kept_rows.values()))
        some = list(islice(rows, wanted))
        if not some:
            return
        yield [chosen for row in some if (chosen := _judge(row, settings, statistics)) is not None]


def _judge(row: Row, settings: RowsArguments, statistics: RowStatistics) -> Chosen | None:
    statistics.rows_read += 1
    if is_synth(row):
        row = {**dict.fromkeys(COLUMNS), **row}  # those beside question and answer may be absent
    try:
        if row.get("chosen") is not None and row.get("rejected") is not None:
            messages: list[Message] = []
            changes: list[str] = []
            split = _split_of_text(_question_of_preference(row), settings)
        else:
            messages, changes = row_to_messages(row, settings.languages, settings.exercises)
            split = _split_of_conversation(row, messages, settings)
    except UnusableRowError as error:
        statistics.drop(str(error))
        return None
    return Chosen(row, split, messages, changes)


def _split_of_conversation(row: Row, messages: list[Message], settings: RowsArguments) -> Split:
    """By the row's articles, or, where it has none, by what the user says first."""
    if not is_synth(row):
        return _split_of_text(first_question(messages), settings)
    split = split_of(row, settings.validation_fraction, settings.split_seed)
    if split is None:
        raise UnusableRowError("links to articles of both parts")
    return split


def _split_of_text(text: str, settings: RowsArguments) -> Split:
    key = int.from_bytes(article_key(text, settings.split_seed), "big")
    return "validation" if key < settings.validation_fraction * 2**64 else "train"


def _question_of_preference(row: Row) -> str:
    """What both answers are to: the prompt, or the first message that they share."""
    question = row.get("prompt") or row["chosen"]
    first = question[0] if isinstance(question, list) and question else question
    return str(first.get("content")) if isinstance(first, dict) else str(first)


def keys_of(chosen: list[Chosen]) -> set[int]:
    """Numbers that stand for the articles of the training rows; none where rows have no articles."""
    rows = [one.row for one in chosen if one.split == "train" and is_synth(one.row)]
    return {int.from_bytes(article_key(article), "big") for row in rows for article in articles(row)}


def seed_keys(rows: list[Row]) -> np.ndarray:
    """The same for the seed article of each row."""
    return np.array([int.from_bytes(article_key(seed_article(row)), "big") for row in rows], dtype=np.uint64)
