"""Training on a stream of rows: a checkpoint knows where each stream is, and a resumed run goes on there."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader, Dataset

from train.callbacks.graceful_stop import shield_workers
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.streamed_sequences import Place, StreamedSequences
from train.errors import RunRefusedError
from train.run_files import STREAM_FILE
from train.trainer.pretraining import PretrainingTrainer


NOTES = "stream_notes"  # a batch's stream, the place after it, and the statistics of the rows read for it


class NumberedStream(Dataset):
    """A stream as a dataset of numbered sequences. Each request gets the next sequences of the stream, whatever their
    numbers: at a resume the Trainer passes over the numbers that are used, and the stream is at its place already."""

    def __init__(self, stream: StreamedSequences, sequences: int):
        self.stream = stream
        self.sequences = sequences  # that a run takes of this process's streams, from its first step to its last
        self._reading: Iterator[dict] | None = None  # in each dataloader worker its own

    def __len__(self) -> int:
        return self.sequences

    def __getitems__(self, numbers: list[int]) -> list[dict]:
        if self._reading is None:
            self._reading = iter(self.stream)
        return list(islice(self._reading, len(numbers)))


def collate_stream(collate: Callable[[list[dict]], dict], examples: list[dict]) -> dict:
    """The batch that `collate` makes of streamed sequences, with its notes."""
    statistics_parts = [example["statistics"] for example in examples if example["statistics"] is not None]
    return {**collate(examples), NOTES: (examples[-1]["stream"], examples[-1]["place"], statistics_parts)}


class StreamingTrainer(PretrainingTrainer):
    """Identical to its parent, except that it trains on `StreamedSequences`: each process reads its own streams, a
    checkpoint has their places, and a resumed run goes on there without reading again the rows that were used."""

    train_dataset: StreamedSequences

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.stream_statistics = DatasetStatistics()  # over all processes and starts, as of the last checkpoint
        self._places: dict[int, Place] = dict(self.train_dataset.places)
        self._counted = DatasetStatistics()  # by this process since the last checkpoint

    def train(self, resume_from_checkpoint: Path | None = None, **kwargs):
        if resume_from_checkpoint is not None:
            state = json.loads((resume_from_checkpoint / STREAM_FILE).read_text(encoding="utf-8"))
            self.stream_statistics = DatasetStatistics.from_dict(state["statistics"])
        output = super().train(resume_from_checkpoint, **kwargs)
        self._add_up()
        return output

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        sequences = args.max_steps * args.gradient_accumulation_steps * args.train_batch_size
        # Not prepared by accelerate, which would share out the batches: each process has its own streams.
        dataloader = DataLoader(
            NumberedStream(self.train_dataset, sequences),
            batch_size=args.train_batch_size,
            collate_fn=partial(collate_stream, self.data_collator),
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory,
            generator=torch.Generator(),  # of its own: a start draws a number, which must not change dropout's
        )
        return shield_workers(dataloader)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            stream, self._places[stream], statistics_parts = batch.pop(NOTES)
            self._counted.sequences["train"] += len(batch["input_ids"])
            for statistics in statistics_parts:
                self._counted.add(statistics)
        return batches, items

    def save_more(self, unfinished: Path) -> None:
        places = self._add_up()
        if self.args.should_save:
            state = {
                "streams": self.train_dataset.streams,
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

    def describe_rows(self, step: int) -> str:
        return "; ".join(
            f"stream {stream}: pass {place.passes + 1}, chunk {place.chunk + 1} in its order, "
            f"sequence {place.sequence} of window {place.windows + 1}"
            for stream, place in sorted(self._places.items())
        )


def read_places(checkpoint: Path, streams: int) -> dict[int, Place]:
    """Where each stream of a run is, from a checkpoint.

    Raises:
        RunRefusedError: the checkpoint has another number of streams, or notes their places in another form.
    """
    state = json.loads((checkpoint / STREAM_FILE).read_text(encoding="utf-8"))
    if state["streams"] != streams:
        raise RunRefusedError(
            f"{checkpoint} was made with {state['streams']} streams, one for each of the --dataloader_num_workers in "
            f"each process; now there would be {streams}. Choose processes x workers = {state['streams']}."
        )
    try:
        return {int(stream): Place(**{**at, "rest": tuple(at["rest"])}) for stream, at in state["places"].items()}
    except TypeError as error:
        raise RunRefusedError(f"{checkpoint} notes its streams' places as an older version did: start anew.") from error
