"""Training on a stream of rows: a checkpoint knows where each stream is, and a resumed run goes on there."""

import dataclasses
import json
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.streamed_sequences import Place, StreamedSequences
from train.run_files import STREAM_FILE
from train.trainer.saving import SavingTrainer


NOTES = "stream_notes"  # a batch's stream, the place after it, and what was read for it


class CollateStream:
    """A batch of streamed blocks, with its notes.

    Args:
        collate: makes the model's batch of the blocks.
    """

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, examples: list[dict]) -> dict:
        statistics_parts = [example["statistics"] for example in examples if example["statistics"] is not None]
        return {**self.collate(examples), NOTES: (examples[-1]["stream"], examples[-1]["place"], statistics_parts)}


class StreamingTrainer(SavingTrainer):
    """Identical to `transformers.Trainer`, except that `StreamedSequences` are read as they are, each process its own
    streams, and resumed at their places: the Trainer would read all rows again that were used.

    Attributes:
        stream_statistics: what became of the rows read, over all processes and starts, as of the last checkpoint.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stream_statistics = DatasetStatistics()
        self._places: dict[int, Place] = {}
        self._counted = DatasetStatistics()  # by this process since the last checkpoint

    @property
    def is_streaming(self) -> bool:
        return isinstance(self.train_dataset, StreamedSequences)

    def train(self, resume_from_checkpoint=None, **kwargs):
        if self.is_streaming:
            self._places = dict(self.train_dataset.places)
            if resume_from_checkpoint is not None:
                self.stream_statistics = read_stream_statistics(Path(resume_from_checkpoint))
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self.is_streaming:
            self._add_up()
        return output

    def get_train_dataloader(self) -> DataLoader:
        if not self.is_streaming:
            return super().get_train_dataloader()
        # Not prepared by accelerate, which would share out or broadcast the batches: each process has its own streams.
        return DataLoader(
            self.train_dataset,
            batch_size=self._train_batch_size,
            collate_fn=CollateStream(self.data_collator),
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator(),  # of its own: a start draws a number, which must not change dropout's
        )

    def get_batch_samples(self, *args, **kwargs):
        batches, items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            if NOTES in batch:
                stream, self._places[stream], statistics_parts = batch.pop(NOTES)
                self._counted.blocks["train"] += len(batch["input_ids"])
                for statistics in statistics_parts:
                    self._counted.add(statistics)
        return batches, items

    def _run_epoch(self, *args, **kwargs) -> None:
        if not self.is_streaming:
            return super()._run_epoch(*args, **kwargs)
        # All of a resumed step's counting is wanted, and none of its reading: the stream begins at the right place.
        with patch("transformers.trainer.skip_first_batches", lambda dataloader, batches: dataloader):
            return super()._run_epoch(*args, **kwargs)

    def save_more(self, unfinished: Path) -> None:
        super().save_more(unfinished)
        if not self.is_streaming:
            return
        places = self._add_up()
        if self.args.should_save:
            state = {
                "streams": self.train_dataset.settings.streams,
                "places": {str(stream): dataclasses.asdict(place) for stream, place in sorted(places.items())},
                "statistics": self.stream_statistics.to_dict(),
            }
            (unfinished / STREAM_FILE).write_text(json.dumps(state), encoding="utf-8")

    def _add_up(self) -> dict[int, Place]:
        """Count what all processes have read since the last time; returns the places of all streams."""
        places: dict[int, Place] = {}
        for process_places, statistics in gather_object([(self._places, self._counted)]):
            places |= process_places
            self.stream_statistics.add(statistics)
        self._counted = DatasetStatistics()
        return places

    def describe_streams(self) -> str:
        """Where this process's streams are, in words."""
        return "; ".join(
            f"stream {stream}: pass {place.passes + 1}, file {place.piece + 1} in its order, block {place.block} of "
            f"window {place.windows + 1}"
            for stream, place in sorted(self._places.items())
        )


def read_places(checkpoint: Path) -> tuple[int, dict[int, Place]]:
    """The number of streams of a run, and where each is, from a checkpoint."""
    state = json.loads((checkpoint / STREAM_FILE).read_text(encoding="utf-8"))
    places = {
        int(stream): Place(**{**place, "rest": tuple(place["rest"])}) for stream, place in state["places"].items()
    }
    return state["streams"], places


def read_stream_statistics(checkpoint: Path) -> DatasetStatistics:
    return DatasetStatistics.from_dict(json.loads((checkpoint / STREAM_FILE).read_text(encoding="utf-8"))["statistics"])
