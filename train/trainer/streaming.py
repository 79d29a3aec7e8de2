"""Training on a stream of rows: a checkpoint knows where each stream is, and a resumed run goes on there."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from accelerate.utils import gather_object, send_to_device
from torch.utils.data import DataLoader, Dataset

from train.callbacks.graceful_stop import shield_workers
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.streamed_sequences import MixedPlace, MixedStreams, Place
from train.errors import RunRefusedError
from train.run_files import STREAM_FILE
from train.trainer.pretraining import PretrainingTrainer


# A batch's stream, the place after it, and for each sequence its dataset and the statistics of the rows read for it.
NOTES = "stream_notes"


class NumberedStream(Dataset):
    """A stream as a dataset of numbered sequences. Each request gets the next sequences of the stream, whatever their
    numbers: at a resume the Trainer passes over the numbers that are used, and the stream is at its place already."""

    def __init__(self, stream: MixedStreams, sequences: int):
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
    counts = [(example["dataset"], example["statistics"]) for example in examples]
    return {**collate(examples), NOTES: (examples[-1]["stream"], examples[-1]["place"], counts)}


class StreamingTrainer(PretrainingTrainer):
    """Identical to its parent, except that it trains on `MixedStreams`: each process reads its own streams, a
    checkpoint has their places, and a resumed run goes on there without reading again the rows that were used."""

    train_dataset: MixedStreams

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Of each dataset, over all processes and starts, as of the last checkpoint.
        self.stream_statistics = [DatasetStatistics() for _ in self.train_dataset.parts]
        self._places: dict[int, MixedPlace] = dict(self.train_dataset.places)
        self._counted = [DatasetStatistics() for _ in self.train_dataset.parts]  # by this process since then

    def train(self, resume_from_checkpoint: Path | None = None, **kwargs):
        if resume_from_checkpoint is not None:
            state = json.loads((resume_from_checkpoint / STREAM_FILE).read_text(encoding="utf-8"))
            parts = state["statistics"] if isinstance(state["statistics"], list) else [state["statistics"]]
            self.stream_statistics = [DatasetStatistics.from_dict(part) for part in parts]
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
        # As accelerate sends the batches that it shares out: while the host goes on.
        send = partial(send_to_device, device=device, non_blocking=self.args.dataloader_pin_memory, skip_keys=NOTES)
        batches, items = super().get_batch_samples(map(send, epoch_iterator), num_batches, device)
        for batch in batches:
            stream, self._places[stream], counts = batch.pop(NOTES)
            for dataset, statistics in counts:
                self._counted[dataset].sequences["train"] += 1
                if statistics is not None:
                    self._counted[dataset].add(statistics)
        return batches, items

    def save_more(self, unfinished: Path) -> None:
        places = self._add_up()
        if self.args.should_save:
            state = {
                "streams": self.train_dataset.streams,
                "places": {str(stream): dataclasses.asdict(place) for stream, place in sorted(places.items())},
                "statistics": [part.to_dict() for part in self.stream_statistics],
            }
            (unfinished / STREAM_FILE).write_text(json.dumps(state), encoding="utf-8")

    def _add_up(self) -> dict[int, MixedPlace]:
        """Count what all processes have read since the last time; returns the places of all streams."""
        places: dict[int, MixedPlace] = {}
        for process_places, counted in gather_object([(self._places, self._counted)]):
            places |= process_places
            for total, statistics in zip(self.stream_statistics, counted, strict=True):
                total.add(statistics)
        self._counted = [DatasetStatistics() for _ in self._counted]
        return places

    def describe_rows(self, step: int) -> str:
        return "; ".join(
            f"stream {stream} of {part.preparation.source.name}: pass {place.passes + 1}, chunk {place.chunk + 1} in "
            f"its order, sequence {place.sequence} of window {place.windows + 1}"
            for stream, mixed in sorted(self._places.items())
            for part, place in zip(self.train_dataset.parts, mixed.places, strict=True)
        )


def read_places(checkpoint: Path, streams: int) -> dict[int, MixedPlace]:
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
        return {int(stream): _to_place(at) for stream, at in state["places"].items()}
    except TypeError as error:
        raise RunRefusedError(f"{checkpoint} notes its streams' places as an older version did: start anew.") from error


def _to_place(noted: dict) -> MixedPlace:
    """From a checkpoint; those of a dataset alone may have the place in it only."""
    places = tuple(Place(**{**at, "rest": tuple(at["rest"])}) for at in noted.get("places", [noted]))
    return MixedPlace(noted.get("sequences", 0), places)
