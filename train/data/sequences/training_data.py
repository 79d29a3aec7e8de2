"""The data that a run trains and evaluates on: sequences prepared on disk, or made from streams of rows."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tabulate import tabulate
from torch.utils.data import Dataset

from train.data.cache_folder import cache_root, fingerprint
from train.data.files.sources import short_names
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import Row
from train.data.sequences.packing import choose_collator
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepare import PreparedData, prepare_data, touch_articles
from train.data.sequences.prepared_sequences import (
    MixedSequences,
    ValidationParts,
    epoch_counts,
    to_shares,
    validation_counts,
)
from train.data.sequences.streamed_sequences import MixedStreams


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Sequences of both parts, and where they come from; of the lists, the members are those of each dataset."""

    train: Dataset
    validation: ValidationParts
    collate: Callable[[list[dict]], dict]  # makes batches of them
    name: str  # the SHA-256 of the training tokens; of a stream, of what decides them
    preparations: list[Preparation]
    statistics: list[DatasetStatistics]  # of the rows; of a stream, of the validation ones
    shares: list[float]  # of the training sequences
    passes: list[float] | None  # over its training sequences in an epoch; `None` of a stream
    # For each row, whether its seed article is one that is trained on; `None` where a stream will show.
    is_known: Callable[[list[Row]], list[bool] | None]

    @property
    def schema(self) -> str:
        """Of the rows: synth, text, messages, or mixed."""
        names = {preparation.row_filter.schema.name for preparation in self.preparations}
        return names.pop() if len(names) == 1 else "mixed"

    def describe(self, statistics: list[DatasetStatistics] | None = None) -> dict:
        """The datasets as a run records them, with these statistics in place of its own."""
        places = [one.describe_source() for one in self.preparations]
        statistics, set_apart = statistics or self.statistics, self.preparations[0].validation
        apart = {} if set_apart is None else {"validation_set": set_apart.describe_source()}
        if len(places) == 1:
            return {**places[0], **apart, **statistics[0].to_dict()}
        parts = [
            {**place, **mixed, **counts.to_dict()}
            for place, mixed, counts in zip(places, self._mixture(), statistics, strict=True)
        ]
        return {"schema": self.schema, **apart, "datasets": parts}

    def render(self, statistics: list[DatasetStatistics] | None = None) -> str:
        """The same as text."""
        tables = [one.render() for one in statistics or self.statistics]
        names = [str(preparation.source) for preparation in self.preparations]
        if len(names) == 1:
            return tables[0]
        tables = [f"{name}:\n{table}" for name, table in zip(names, tables, strict=True)]
        rows = [[name, *mixed.values()] for name, mixed in zip(names, self._mixture(), strict=True)]
        header = ["dataset", "share", "passes in an epoch", "validation sequences"]
        return "\n\n".join([*tables, tabulate(rows, header, tablefmt="plain", floatfmt=",.4g", intfmt=",")])

    def _mixture(self) -> list[dict]:
        """The share of each dataset, the passes over it, and its validation sequences, unless these are set apart."""
        ends = [0, *self.validation.cumulative_sizes]
        return [
            {
                "share": share,
                "passes_in_epoch": self.passes and self.passes[number],
                "validation_sequences": ends[number + 1] - ends[number] if len(ends) > len(self.shares) else None,
            }
            for number, share in enumerate(self.shares)
        ]


def load_prepared_data(
    preparations: list[Preparation],
    weights: list[float] | None,
    *,
    sequences_per_step: int,
    max_eval_sequences: int | None,
    processes: int,
    writes: bool,
) -> TrainingData:
    """Prepare the data, or find it, as `prepare_data` does.

    Raises:
        ValueError: a source cannot be read, too few rows are left, or they do not fill one batch.
    """
    weights = weights if len(preparations) > 1 else None
    parts = [prepare_data(preparation, processes, writes) for preparation in preparations]
    sizes = [len(part.train) for part in parts]
    counts = epoch_counts(sizes, weights, sequences_per_step)
    train = MixedSequences([part.train for part in parts], counts)
    return TrainingData(
        train=train,
        name=_name_mixture([part.statistics.sha256["train"] for part in parts], weights),
        shares=[count / len(train) for count in counts],
        passes=[count / size for count, size in zip(counts, sizes, strict=True)],
        is_known=partial(touch_articles, [file for part in parts for file in part.article_files]),
        **_with_validation(preparations, parts, weights, max_eval_sequences),
    )


def load_streamed_data(streams: MixedStreams, max_eval_sequences: int, processes: int, writes: bool) -> TrainingData:
    """Prepare the validation rows of streams, or find them, as `prepare_data` does.

    Raises:
        ValueError: a source cannot be read, or too few validation rows are left.
    """
    preparations, names = [part.preparation for part in streams.parts], []
    wanted = validation_counts([max_eval_sequences] * len(preparations), streams.weights, max_eval_sequences)
    parts = [
        prepare_data(preparation.only_validation(sequences), processes, writes)
        for preparation, sequences in zip(preparations, wanted, strict=True)
    ]
    for preparation in preparations:
        source = preparation.source
        checksums = source.checksums(cache_root(preparation.cache_dir))
        shards = [[Path(one.name).name, one.bytes, known] for one, known in zip(source.shards, checksums, strict=True)]
        # The rows and how they are chosen; the order is the seed's and the recipe's.
        decides = [shards, source.revision, preparation.row_filter.fingerprint(), asdict(preparation.settings)]
        names.append(fingerprint([*decides, *([preparation.validation.folder.name] if preparation.validation else [])]))
    return TrainingData(
        train=streams,
        name=_name_mixture(names, streams.weights),
        shares=[float(share) for share in to_shares(streams.weights)],
        passes=None,
        is_known=lambda rows: None,
        **_with_validation(preparations, parts, streams.weights, max_eval_sequences),
    )


def _with_validation(
    preparations: list[Preparation], parts: list[PreparedData], weights: list[float] | None, most: int | None
) -> dict[str, Any]:
    """What a `TrainingData` has of its validation sequences, and of each dataset."""
    first = preparations[0]
    statistics, sources = [part.statistics for part in parts], [preparation.source for preparation in preparations]
    if first.validation is not None:  # the same of all
        sources, parts, weights = [first.validation.source], parts[:1], None
    counts = validation_counts([len(part.validation) for part in parts], weights, most)
    sequences = [part.validation.first(count) for part, count in zip(parts, counts, strict=True)]
    return {
        "validation": ValidationParts(sequences, short_names(sources)),
        "collate": choose_collator(first.settings.packing, first.tokenizer.eos_token_id),
        "preparations": preparations,
        "statistics": statistics,
    }


def _name_mixture(names: list[str], weights: list[float] | None) -> str:
    """What tells the data from others, made of the same of each dataset."""
    return names[0] if len(names) == 1 else fingerprint([names, weights and [str(one) for one in to_shares(weights)]])
