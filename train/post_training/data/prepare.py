"""From a source of rows to what a method trains on, in Arrow files: made once, and found again by what made them."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import datasets
import pyarrow as pa
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from train.data.cache_folder import cache_folder, cache_root, writing_into
from train.data.files.sources import Source
from train.data.rows.conversations import is_synth
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import SPLITS
from train.data.rows.synth import Row, article_key
from train.data.sequences.prepare import SECONDS_BETWEEN_LOOKS, touch_articles
from train.errors import RunRefusedError
from train.post_training.data.encoding import NO_LOSS
from train.post_training.data.examples import Example, make_examples
from train.post_training.data.statistics import RowStatistics
from train.post_training.data.usable_rows import UsableRow, usable_rows


# Part of the fingerprint: raise it when the same rows and settings would give other examples or other files.
FORMAT_VERSION = 2
STATISTICS_FILE = "statistics.json"
ARTICLES_FILE = "articles"  # keys of the articles of the training rows; empty where rows have no articles


@dataclass(frozen=True)
class PostTrainingData:
    train: datasets.Dataset  # of examples (see `train.post_training.data.examples`)
    validation: datasets.Dataset
    statistics: RowStatistics
    folder: Path

    @property
    def name(self) -> str:
        """The SHA-256 of the training examples; a run goes on only with the same."""
        return self.statistics.sha256["train"]

    def is_known(self, questions: list[Row]) -> list[bool] | None:
        """For each question of an exam, whether training rows came from its seed article; `None` without articles."""
        file = self.folder / ARTICLES_FILE
        return touch_articles([file], questions) if file.stat().st_size else None


@dataclass(frozen=True)
class RowPreparation:
    """Everything that decides the examples."""

    source: Source
    method: str
    row_filter: RowFilter
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int  # length of a whole text, at most
    answer_tokens: int  # room that a question must leave in it
    max_samples: int | None  # usable rows, at most; all where `None`
    cache_dir: Path | None  # holds the folders of all preparations; beside the datasets library's cache where `None`
    validation: Source | None = None  # all of its rows are for validation, and the others for training

    def describe(self) -> dict:
        """The facts of the rows that a run records."""
        apart = {} if self.validation is None else {"validation_set": self.validation.describe()}
        return {**self.source.describe(), **apart}

    @cached_property
    def folder(self) -> Path:
        root = cache_root(self.cache_dir)
        made_from = [
            *(
                FORMAT_VERSION,
                self.source.fingerprint(root),
                self.method,
                self.row_filter.fingerprint(),
                self.max_samples,
            ),
            *(self.max_tokens, self.answer_tokens, self.tokenizer.chat_template),
            *([] if self.validation is None else [self.validation.fingerprint(root)]),
        ]
        return cache_folder(made_from, self.tokenizer, self.cache_dir, prefix="examples-")


def load_data(
    preparation: RowPreparation, max_eval_samples: int | None = None, writes: bool = True
) -> PostTrainingData:
    """Read the rows and make the examples, or find those that an earlier run made.

    Args:
        max_eval_samples: validation examples, at most; all where `None`.
        writes: whether this process makes what is not there; the others of its machine wait for it.

    Raises:
        ValueError, OSError: the source cannot be read.
        RunRefusedError: no row is left of one of the two parts.
    """
    folder = preparation.folder
    if writes and not folder.exists():
        with writing_into(folder.parent), FileLock(f"{folder}.lock"):
            if not folder.exists():
                _write_examples(preparation)
    while not folder.exists():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    statistics = RowStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8")))
    assert isinstance(statistics, RowStatistics)
    preparation.row_filter.warn_of_misspelt(statistics)
    try:
        train, validation = (datasets.Dataset.from_file(str(folder / f"{split}.arrow")) for split in SPLITS)
        if (len(train), len(validation)) != tuple(statistics.kept_rows[split] for split in SPLITS):
            raise EOFError
    except (OSError, pa.ArrowException, EOFError) as error:
        raise ValueError(f"{folder} has lost examples since they were made: remove it, to make them again.") from error
    validation = validation.select(range(min(max_eval_samples or len(validation), len(validation))))
    return PostTrainingData(train, validation, statistics, folder)


def _write_examples(preparation: RowPreparation) -> None:
    """Write the folder whole, or nothing."""
    folder = preparation.folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    statistics, digest = RowStatistics(), hashlib.sha256()
    writers: dict[str, pa.ipc.RecordBatchStreamWriter] = {}
    with open(unfinished / ARTICLES_FILE, "wb") as article_keys:
        for rows in _read_parts(preparation, statistics):
            examples = _make_counted(rows, preparation, statistics)
            if examples and not writers:
                schema = _schema(examples[0][1])
                writers = {split: pa.ipc.new_stream(unfinished / f"{split}.arrow", schema) for split in SPLITS}
            for split, writer in writers.items():
                some = [example for one, example in examples if one.split == split]
                if any(list(example) != schema.names for example in some):
                    raise ValueError("Rows with and without `chosen` and `rejected` stand in one dataset: part them.")
                writer.write_table(pa.Table.from_pylist(some, schema))
                if split == "train":
                    digest.update(json.dumps(some).encode())
            for one, _ in examples:
                if one.split == "train" and is_synth(one.row):
                    article_keys.write(b"".join(map(article_key, one.articles)))
    for writer in writers.values():
        writer.close()
    for split, remedy in (("train", "give more rows"), ("validation", "raise --validation_fraction, or give more")):
        if not statistics.kept_rows[split]:
            raise RunRefusedError(f"No row is left for {split}: {remedy}.\n{statistics.render()}")
    statistics.sha256["train"] = digest.hexdigest()
    (unfinished / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2), encoding="utf-8")
    unfinished.rename(folder)


def _read_parts(preparation: RowPreparation, statistics: RowStatistics) -> Iterator[list[UsableRow]]:
    """The usable rows: those of a validation set first, and then what shares no article with it."""
    method, row_filter, apart = preparation.method, preparation.row_filter, preparation.validation
    held_out: set[str] = set()
    if apart is not None:
        whole = replace(row_filter, validation_fraction=1.0)
        for rows in usable_rows(apart, method, whole, None, statistics):
            held_out.update(article for one in rows for article in one.articles)
            yield rows
        row_filter = replace(row_filter, validation_fraction=0.0)
    yield from usable_rows(preparation.source, method, row_filter, preparation.max_samples, statistics, held_out)


def _make_counted(
    rows: list[UsableRow], preparation: RowPreparation, statistics: RowStatistics
) -> list[tuple[UsableRow, Example]]:
    made = make_examples(
        rows, preparation.method, preparation.tokenizer, preparation.max_tokens, preparation.answer_tokens
    )
    kept = []
    for one, example in zip(rows, made, strict=True):
        if isinstance(example, str):
            statistics.dropped_rows[example] += 1
            continue
        statistics.answer_tokens[one.split] += sum(label != NO_LOSS for label in example.get("labels", ()))
        statistics.keep(one.row, one.split, one.changes, len(example.get("input_ids", ())))
        kept.append((one, example))
    return kept


def _schema(example: Example) -> pa.Schema:
    ids = pa.list_(pa.int32())
    return pa.schema([(name, ids if isinstance(value, list) else pa.string()) for name, value in example.items()])
