"""What a recipe trains and evaluates on: blocks prepared on disk, or made from a stream of rows."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from train.data.files.shard_reading import check_file
from train.data.files.sources import Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import Row
from train.data.sequences.packing import CollateDocuments, collate_sequences
from train.data.sequences.prepare import NOT_IN_THE_BLOCKS, prepare_data, prepare_validation
from train.data.sequences.prepared_sequences import PreparedSequences
from train.data.sequences.streamed_sequences import Place, StreamedSequences, StreamSettings
from train.errors import RunRefusedError
from train.settings.recipe import Recipe
from train.trainer.streaming import read_places


@dataclass(frozen=True)
class TrainingData:
    """Args:
    train, validation: blocks.
    collate: makes batches of them.
    name: the SHA-256 of the training tokens; of a stream, of what decides them.
    statistics: what became of the rows; of a stream, of the held-out ones.
    is_known: for each row, whether its seed article is one that is trained on; `None` where a stream will show.
    """

    train: Dataset
    validation: PreparedSequences
    collate: Callable[[list[dict]], dict]
    name: str
    statistics: DatasetStatistics
    source: Source
    is_known: Callable[[list[Row]], list[bool] | None]


def load_training_data(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> TrainingData:
    """Prepare or find the data; a stream goes on where the checkpoint left it.

    Raises:
        ValueError: the source cannot be read, or too few rows are left.
        RunRefusedError: not enough blocks for a batch, or another number of streams than the checkpoint's.
    """
    settings = recipe.data
    writes = recipe.training.local_process_index == 0
    collate: Any = collate_sequences if settings.packing == "concat" else CollateDocuments(tokenizer.eos_token_id)
    if settings.streaming:
        validation = prepare_validation(settings, tokenizer, writes)
        stream = _open_stream(recipe, tokenizer, validation.source, validation.folder)
        name = _stream_name(recipe, validation.source)
        return TrainingData(
            *(stream, validation.validation.first(settings.max_eval_sequences or 0), collate, name),
            *(validation.statistics, validation.source, lambda rows: None),
        )
    data = prepare_data(settings, tokenizer, writes)
    # Whole batches only: every step then sees the same number of tokens, whatever the number of processes.
    train_blocks = len(data.train) // recipe.sequences_per_step * recipe.sequences_per_step
    if not train_blocks:
        raise RunRefusedError(
            f"{len(data.train):,} training blocks do not fill one batch of {recipe.sequences_per_step:,}: lower "
            "--per_device_train_batch_size, --gradient_accumulation_steps or --sequence_length, or give more rows."
        )
    return TrainingData(
        train=data.train.first(train_blocks),
        validation=data.validation.first(settings.max_eval_sequences or len(data.validation)),
        collate=collate,
        name=data.statistics.sha256["train"],
        statistics=data.statistics,
        source=data.source,
        is_known=data.trained_on_article,
    )


def _open_stream(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, source: Source, folder: Path) -> StreamedSequences:
    settings, training = recipe.data, recipe.training
    streams = training.world_size * max(1, training.dataloader_num_workers)
    places: dict[int, Place] = {}
    batches_before = 0
    if recipe.resume_from is not None:
        streams_before, places = read_places(recipe.resume_from)
        if streams_before != streams:
            raise RunRefusedError(
                f"{recipe.resume_from} was made with {streams_before} streams, one for each of the "
                f"--dataloader_num_workers in each process; now there would be {streams}. Choose processes x workers "
                f"= {streams_before}."
            )
        step = int(recipe.resume_from.name.rpartition("-")[2])
        batches_before = step * training.gradient_accumulation_steps
    if source.revision is None and settings.broken_shards == "stop":
        for shard in source.shards:  # now, and not in the step that comes to it
            check_file(Path(shard.name), str(shard))
    stream_settings = StreamSettings(
        source=source,
        choice=RowFilter.from_arguments(settings),
        sequence_length=settings.sequence_length,
        packing=settings.packing,
        shuffle_buffer=settings.shuffle_buffer,
        skip_broken=settings.broken_shards == "skip",
        seed=training.data_seed if training.data_seed is not None else training.seed,
        streams=streams,
        folder=folder / "fetched" / f"process-{training.process_index}",
    )
    return StreamedSequences(
        stream_settings, tokenizer, training.process_index, training.world_size, batches_before, places
    )


def _stream_name(recipe: Recipe, source: Source) -> str:
    """Names the rows and how they are chosen; the order is the seed's and the recipe's."""
    shards = [[Path(shard.name).name, shard.bytes, shard.sha256] for shard in source.shards]
    choice = {name: value for name, value in asdict(recipe.data).items() if name not in NOT_IN_THE_BLOCKS}
    del choice["dataset"]
    return hashlib.sha256(json.dumps([shards, source.revision, choice], sort_keys=True).encode()).hexdigest()
