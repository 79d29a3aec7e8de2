"""The data that a run trains and evaluates on: sequences prepared on disk, or made from a stream of rows."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from torch.utils.data import Dataset

from train.data.cache_folder import cache_root, fingerprint
from train.data.files.shard_reading import check_file
from train.data.files.sources import Source
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import Row
from train.data.sequences.packing import choose_collator
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepare import prepare_data, touch_articles
from train.data.sequences.prepared_sequences import PreparedSequences
from train.data.sequences.streamed_sequences import StreamedSequences


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Sequences of both parts, and where they come from."""

    train: Dataset
    validation: PreparedSequences
    collate: Callable[[list[dict]], dict]  # makes batches of them
    name: str  # the SHA-256 of the training tokens; of a stream, of what decides them
    statistics: DatasetStatistics  # of the rows; of a stream, of the validation ones
    source: Source
    validation_source: Source | None  # of a set that is named apart
    schema: str  # of its rows: synth, text or messages
    # For each row, whether its seed article is one that is trained on; `None` where a stream will show.
    is_known: Callable[[list[Row]], list[bool] | None]

    def describe_source(self) -> dict:
        """The facts of the rows' places that a run records."""
        apart = {} if self.validation_source is None else {"validation_set": self.validation_source.describe()}
        return {**self.source.describe(), "schema": self.schema, **apart}


def load_prepared_data(
    preparation: Preparation, sequences_per_step: int, max_eval_sequences: int | None, processes: int, writes: bool
) -> TrainingData:
    """Prepare the data, or find it, as `prepare_data` does.

    Raises:
        ValueError: the source cannot be read, too few rows are left, or they do not fill one batch.
    """
    data = prepare_data(preparation, processes, writes)
    # Whole batches only: every step then sees the same number of tokens, whatever the number of processes.
    train_sequences = len(data.train) // sequences_per_step * sequences_per_step
    if not train_sequences:
        raise ValueError(
            f"{len(data.train):,} training sequences do not fill one batch of {sequences_per_step:,}: lower "
            "--per_device_train_batch_size, --gradient_accumulation_steps or --sequence_length, or give more rows."
        )
    return TrainingData(
        train=data.train.first(train_sequences),
        validation=data.validation.first(max_eval_sequences or len(data.validation)),
        collate=choose_collator(preparation.settings.packing, preparation.tokenizer.eos_token_id),
        name=data.statistics.sha256["train"],
        statistics=data.statistics,
        source=preparation.source,
        validation_source=preparation.validation_source,
        schema=preparation.row_filter.schema.name,
        is_known=partial(touch_articles, data.article_files),
    )


def load_streamed_data(
    stream: StreamedSequences, max_eval_sequences: int, processes: int, writes: bool
) -> TrainingData:
    """Prepare the validation rows of a stream, or find them, as `prepare_data` does.

    Raises:
        ValueError: the source cannot be read, or too few validation rows are left.
    """
    preparation, source = stream.preparation, stream.preparation.source
    validation = prepare_data(preparation.only_validation(max_eval_sequences), processes, writes)
    if source.revision is None and not preparation.settings.skip_broken:
        for shard in source.shards:  # now, and not in the step that comes to it
            check_file(Path(shard.name), str(shard), preparation.row_filter.schema.columns)
    checksums = source.checksums(cache_root(preparation.cache_dir))
    shards = [[Path(shard.name).name, shard.bytes, one] for shard, one in zip(source.shards, checksums, strict=True)]
    return TrainingData(
        train=stream,
        validation=validation.validation.first(max_eval_sequences),
        collate=choose_collator(preparation.settings.packing, preparation.tokenizer.eos_token_id),
        # The rows and how they are chosen; the order is the seed's and the recipe's.
        name=fingerprint(
            [
                *(shards, source.revision, preparation.row_filter.fingerprint(), asdict(preparation.settings)),
                *([preparation.validation.folder.name] if preparation.validation else []),
            ]
        ),
        statistics=validation.statistics,
        source=source,
        validation_source=preparation.validation_source,
        schema=preparation.row_filter.schema.name,
        is_known=lambda rows: None,
    )
