"""Rows to documents: chosen, repaired, counted and tokenised."""

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch.loading import count_ids
from train.data.files.chunk import RowBatch
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Row, Split, article_key
from train.data.sequences.left_out import LeftOut
from train.data.sequences.packing import token_dtype


@dataclass
class Document:
    """One usable row."""

    token_ids: np.ndarray  # (n,), the end-of-text token at the end
    split: Split
    times: int  # how often it is used
    article_keys: bytes  # eight for each article that it touches, its seed first


@dataclass
class UsedRow:
    row: Row
    texts: list[str]
    split: Split
    times: int
    characters: int
    repairs: list[str]


def documents_of(
    batches: Iterable[RowBatch],
    row_filter: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    splits: tuple[Split, ...] = SPLITS,
    left_out: LeftOut | None = None,
) -> Iterator[tuple[RowBatch, list[Document], DatasetStatistics]]:
    """The documents of each batch, and the counts of its rows; the next is tokenised, by all cores, while it is used.
    Rows of another part than these are counted as dropped, and not tokenised."""
    dtype = token_dtype(count_ids(tokenizer))
    started: tuple[RowBatch, DatasetStatistics, list[UsedRow], Future] | None = None
    with ThreadPoolExecutor(max_workers=1) as thread:
        for batch in itertools.chain(batches, [None]):
            before, started = started, None
            if batch is not None:
                counts = DatasetStatistics()
                used = list(used_rows(batch, row_filter, counts, splits, left_out))
                started = (batch, counts, used, thread.submit(_tokenise, used, tokenizer))
            if before is not None:
                first, counts, used, token_lists = before
                yield first, list(_to_documents(used, token_lists.result(), row_filter, counts, dtype)), counts


def _tokenise(used: list[UsedRow], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not used:
        return []
    # split_special_tokens: the characters <|endoftext|> in a row stay text, and cannot end a document.
    texts = [text for one in used for text in one.texts]
    tokens = tokenizer(texts, split_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]
    ended = iter([*token_ids, tokenizer.eos_token_id] for token_ids in tokens)
    return [[token for _ in one.texts for token in next(ended)] for one in used]


def used_rows(
    batch: RowBatch,
    row_filter: RowFilter,
    counts: DatasetStatistics,
    splits: tuple[Split, ...],
    left_out: LeftOut | None,
) -> Iterator[UsedRow]:
    """The rows that are used; the others are counted by reason."""
    schema = row_filter.schema
    counts.rows_read = len(batch.rows) + batch.unreadable.total()
    counts.dropped_rows.update(batch.unreadable)
    counts.skipped_shards += batch.skipped
    for row in batch.rows:
        repairs = schema.repair(row)
        characters = schema.characters(row)
        counts.characters_read += characters
        counts.read(row)
        reason, split, times = row_filter.judge(row)
        if reason is None and split not in splits:
            reason = "training row" if split == "train" else "validation row"
        texts = schema.to_texts(row) if reason is None else []
        if reason is None and left_out is not None:
            reason = left_out.reason(schema.articles(row), texts)
        if reason is None:
            yield UsedRow(row, texts, split, times, characters, repairs)
        else:
            counts.drop(reason, characters)


def _to_documents(
    used: list[UsedRow],
    token_lists: list[list[int]],
    row_filter: RowFilter,
    counts: DatasetStatistics,
    dtype: np.dtype,
) -> Iterator[Document]:
    for one, token_ids in zip(used, token_lists, strict=True):
        reason = row_filter.reason_by_length(len(token_ids))
        if reason is not None:
            counts.drop(reason, one.characters)
            continue
        articles = row_filter.schema.articles(one.row)
        if row_filter.validation_fraction == 1:  # training rows of another schema are compared with it by their texts
            articles = [*dict.fromkeys([*articles, *one.texts])]
        keys = [article_key(article) for article in articles]
        counts.keep(one.row, one.split, one.repairs, len(token_ids), one.times, one.characters)
        counts.articles[one.split] += len(keys)
        yield Document(np.array(token_ids, dtype), one.split, one.times, b"".join(keys))
