"""A preparation: which rows, how they become sequences, and the folder in which these lie."""

import math
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from modeling_gpt2scratch.loading import count_ids
from train.data.cache_folder import cache_folder, cache_root
from train.data.files.sources import Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Split
from train.data.sequences.packing import Packing, token_dtype


# Part of the fingerprint: raise it when the same rows and settings would give other sequences or other files.
FORMAT_VERSION = 4
STATISTICS_FILE = "statistics.json"


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

    def only_validation(self, sequences: int) -> "Preparation":
        """The same for the first so many validation sequences, and no training rows."""
        limit = Limit(validation_tokens=sequences * self.settings.sequence_length)
        row_filter = replace(self.row_filter, evaluation_sets=())  # which drop training rows only
        return replace(self, row_filter=row_filter, splits=("validation",), limit=limit)

    @cached_property
    def folder(self) -> Path:
        """Named by a hash of everything that decides its content."""
        made_from = [
            *(FORMAT_VERSION, self.source.fingerprint(cache_root(self.cache_dir)), self.row_filter.fingerprint()),
            *(asdict(self.settings), asdict(self.limit), self.splits),
        ]
        return cache_folder(made_from, self.tokenizer, self.cache_dir)

    @cached_property
    def token_dtype(self) -> np.dtype:
        return token_dtype(count_ids(self.tokenizer))

    @property
    def is_whole(self) -> bool:
        """Whether all of it is on the disk."""
        return (self.folder / STATISTICS_FILE).exists()
