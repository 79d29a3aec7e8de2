"""A preparation: which rows, how they become sequences, and the folder in which these lie."""

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch.loading import count_ids
from train.data.cache_folder import cache_folder, cache_root, fingerprint
from train.data.files.sources import Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import Schema
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Split
from train.data.sequences.packing import Packing, token_dtype


# Part of the fingerprint: raise it when the same rows and settings would give other sequences or other files.
FORMAT_VERSION = 4
STATISTICS_FILE = "statistics.json"
CHUNKS_FILE = "chunks.json"


@dataclass(frozen=True)
class SequenceSettings:
    """How rows become sequences."""

    sequence_length: int  # in tokens
    packing: Packing = "concat"
    skip_broken: bool = False  # leave out what cannot be read, and count it, in place of stopping


@dataclass(frozen=True)
class Limit:
    """How much is still to be prepared. Reading ends with the batch of rows that reaches one of these numbers."""

    rows: float = math.inf  # usable ones of both parts
    train_tokens: float = math.inf
    validation_tokens: float = math.inf

    def after(self, statistics: DatasetStatistics) -> "Limit":
        """The rest, once these rows are prepared."""
        tokens = statistics.tokens
        return Limit(
            self.rows - sum(statistics.kept_rows.values()),
            self.train_tokens - tokens["train"],
            self.validation_tokens - tokens["validation"],
        )

    @property
    def is_reached(self) -> bool:
        return min(self.rows, self.train_tokens, self.validation_tokens) <= 0


@dataclass(frozen=True)
class Preparation:
    """Everything that decides the sequences."""

    source: Source
    row_filter: RowFilter
    settings: SequenceSettings
    tokenizer: PreTrainedTokenizerBase
    cache_dir: Path | None = None  # see `cache_folder`
    limit: Limit = Limit()
    splits: tuple[Split, ...] = SPLITS  # the parts that are prepared
    drop_duplicates: bool = False  # of documents whose texts came before, in the same source
    validation: "Preparation | None" = None  # of a set named apart: no training row touches an article of it

    def with_validation(self, source: Source, schema: Schema) -> "Preparation":
        """The same with all rows of another source for validation, and none of this one."""
        all_rows = replace(
            self.row_filter,
            schema=schema,
            validation_fraction=1.0,
            # These decide on training rows: a change of them leaves the set as it is.
            split_seed=0,
            evaluation_sets=(),
            exercise_weights={},
            language_weights={},
        )
        return replace(
            self,
            row_filter=replace(self.row_filter, validation_fraction=0.0, split_seed=0),
            splits=("train",),
            validation=replace(self, source=source, row_filter=all_rows, splits=("validation",), limit=Limit()),
        )

    def only_validation(self, sequences: int) -> "Preparation":
        """The same for the first so many validation sequences, and no training rows; a set named apart is whole."""
        if self.validation is not None:
            return self.validation
        limit = Limit(validation_tokens=sequences * self.settings.sequence_length)
        row_filter = replace(self.row_filter, evaluation_sets=())  # which drop training rows only
        # Duplicates would only be known after a pass over all rows.
        return replace(self, row_filter=row_filter, splits=("validation",), limit=limit, drop_duplicates=False)

    def describe_source(self) -> dict:
        """The facts that a run records of its rows."""
        return {**self.source.describe(), "schema": self.row_filter.schema.name}

    @cached_property
    def folder(self) -> Path:
        """Named by a hash of everything that decides its content."""
        made_from = [
            *(FORMAT_VERSION, self.source.fingerprint(cache_root(self.cache_dir)), self.row_filter.fingerprint()),
            *(asdict(self.settings), asdict(self.limit), self.splits),
            *([] if self.validation is None else [self.validation.folder.name]),
            *(["drop_duplicates"] if self.drop_duplicates else []),
            *(["keys of texts"] if self.row_filter.validation_fraction == 1 else []),
        ]
        return cache_folder(made_from, self.tokenizer, self.cache_dir)

    @cached_property
    def duplicates_folder(self) -> Path:
        """Where the duplicates among the documents are noted, which tokenizer and sequences have no part in."""
        root = cache_root(self.cache_dir)
        made_from = [
            *(self.source.fingerprint(root), self.row_filter.fingerprint(), self.splits, self.settings.skip_broken),
            self.validation and self.validation.folder.name,
        ]
        return root / f"duplicates-{fingerprint(made_from)[:16]}"

    @cached_property
    def token_dtype(self) -> np.dtype:
        return token_dtype(count_ids(self.tokenizer))

    @property
    def is_whole(self) -> bool:
        """Whether all of it is on the disk."""
        return (self.folder / STATISTICS_FILE).exists() and (self.validation is None or self.validation.is_whole)

    @property
    def chunk_folders(self) -> list[Path]:
        """Of a preparation that is whole, in order."""
        return [self.folder / "chunks" / name for name in json.loads((self.folder / CHUNKS_FILE).read_text())]
