"""Rows to documents: chosen, repaired, counted and tokenised."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from train.data.files.chunk import RowBatch
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import TEXT_COLUMNS, Row, Split, article_key, articles, repair, row_to_text
from train.data.sequences.packing import TOKEN_DTYPE


NOT_NAMED = "(none)"  # the exercise or language of rows that have none


# Why a row is left out where only one part is read.
OF_THE_OTHER_PART: dict[Split, str] = {"validation": "validation row", "train": "training row"}


@dataclass
class Document:
    """One usable row.

    Args:
        token_ids: (n,), the end-of-text token at the end.
        times: how often it is used.
        article_keys: eight bytes for each article that it touches, its seed first.
    """

    token_ids: np.ndarray
    split: Split
    times: int
    article_keys: bytes


@dataclass
class _ChosenRow:
    row: Row
    split: Split
    times: int
    characters: int
    repairs: list[str]


def documents_of(
    batches: Iterable[RowBatch],
    row_filter: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    splits: tuple[Split, ...] = ("train", "validation"),
) -> Iterator[tuple[RowBatch, list[Document], DatasetStatistics]]:
    """The documents of each batch, and the counts of its rows; the next is tokenised, by all cores, while it is used.

    Args:
        splits: documents of another part are counted as dropped, and not tokenised.
    """

    def tokenise(chosen: list[_ChosenRow]) -> list[list[int]]:
        if not chosen:
            return []
        # split_special_tokens: the characters <|endoftext|> in a row stay text, and cannot end a document.
        texts = [row_to_text(one.row) for one in chosen]
        return tokenizer(texts, split_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]

    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead: deque[tuple[RowBatch, DatasetStatistics, list[_ChosenRow], Future]] = deque()

        def finish() -> tuple[RowBatch, list[Document], DatasetStatistics]:
            batch, counts, chosen, token_lists = ahead.popleft()
            documents = _to_documents(chosen, token_lists.result(), row_filter, tokenizer.eos_token_id, counts)
            return batch, documents, counts

        for batch in batches:
            counts = DatasetStatistics()
            chosen = list(_choose(batch, row_filter, counts, splits))
            ahead.append((batch, counts, chosen, thread.submit(tokenise, chosen)))
            if len(ahead) > 1:
                yield finish()
        while ahead:
            yield finish()


def _choose(
    batch: RowBatch, row_filter: RowFilter, counts: DatasetStatistics, splits: tuple[Split, ...]
) -> Iterator[_ChosenRow]:
    """The rows that are used; the others are counted by reason."""
    counts.rows_read = len(batch.rows) + sum(batch.unreadable.values())
    counts.dropped_rows.update(batch.unreadable)
    counts.skipped_shards += batch.skipped
    for row in batch.rows:
        repairs = repair(row)
        characters = sum(len(row[column] or "") for column in TEXT_COLUMNS)
        counts.characters_read += characters
        counts.rows_read_by_exercise[row["exercise"] or NOT_NAMED] += 1
        counts.rows_read_by_language[row["language"] or NOT_NAMED] += 1
        reason, split, times = row_filter.judge(row)
        if reason is None and split not in splits:
            reason = OF_THE_OTHER_PART[split]
        if reason is None:
            yield _ChosenRow(row, split, times, characters, repairs)
        else:
            counts.dropped_rows[reason] += 1
            counts.dropped_characters[reason] += characters


def _to_documents(
    chosen: list[_ChosenRow],
    token_lists: list[list[int]],
    row_filter: RowFilter,
    end_of_text: int,
    counts: DatasetStatistics,
) -> list[Document]:
    documents = []
    for one, token_ids in zip(chosen, token_lists, strict=True):
        token_ids.append(end_of_text)
        reason = row_filter.reason_by_length(len(token_ids))
        if reason is not None:
            counts.dropped_rows[reason] += 1
            counts.dropped_characters[reason] += one.characters
            continue
        keys = [article_key(article) for article in articles(one.row)]
        documents.append(Document(np.array(token_ids, TOKEN_DTYPE), one.split, one.times, b"".join(keys)))
        counts.repaired_rows.update(one.repairs)
        counts.kept_rows[one.split] += 1
        counts.kept_characters[one.split] += one.characters
        counts.repeated_rows += one.times - 1
        counts.tokens[one.split] += one.times * len(token_ids)
        counts.articles[one.split] += len(keys)
        for kind, rows, tokens in (
            ("exercise", counts.rows_by_exercise, counts.tokens_by_exercise),
            ("language", counts.rows_by_language, counts.tokens_by_language),
        ):
            name = one.row[kind] or NOT_NAMED
            rows[name] += 1
            tokens[name] += one.times * len(token_ids)
    return documents
