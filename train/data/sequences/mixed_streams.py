"""The streams of several datasets as one: each sequence is of the dataset whose turn it is by its weight."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from train.data.sequences.mixed_sequences import apportion, interleaved, to_shares
from train.data.sequences.streamed_sequences import Place, StreamedSequences


PERIOD = 2**30  # sequences after which the turns begin anew; in them, each dataset has its share exactly


@dataclass(frozen=True)
class MixedPlace:
    """Where a stream of all datasets is."""

    sequences: int  # that it has given
    places: tuple[Place, ...]  # in each dataset


@dataclass(eq=False)
class MixedStreams(IterableDataset):
    """The streams of one process, endless; each of its dataloader's workers runs one.

    The k-th batch of a process comes from its stream k mod (streams of the process), as dataloader workers take turns:
    so the batches are the same whether they come from workers or processes, and a run can go on with another number of
    either, as long as the product is the same.

    Every item is one of a dataset's, with the `place` of all and the `dataset`'s number.
    """

    parts: list[StreamedSequences]  # of each dataset
    weights: list[float]
    processes: int = 1
    batches_before: int = 0  # those that this process has used
    places: dict[int, MixedPlace] = field(default_factory=dict)  # a stream that is not named begins at the beginning

    @property
    def streams(self) -> int:
        return self.parts[0].streams

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        assert self.streams == self.processes * workers
        stream = self.parts[0].process + self.processes * ((self.batches_before + turn) % workers)
        yield from self.sequences_of(stream)

    def sequences_of(self, stream: int) -> Iterator[dict]:
        """One stream, from its place on; errors are those of `StreamedSequences`."""
        place = self.places.get(stream, MixedPlace(0, (Place(),) * len(self.parts)))
        readers = [part.sequences_of(stream, at) for part, at in zip(self.parts, place.places, strict=True)]
        turns = apportion(PERIOD, to_shares(self.weights))
        # Each stream begins elsewhere, so that their sequences of a step are not all of one dataset.
        begin = int(np.random.default_rng((self.parts[0].seed, stream)).integers(PERIOD))
        while True:
            dataset, _ = interleaved((begin + place.sequences) % PERIOD, turns)
            item = next(readers[dataset])
            places = (*place.places[:dataset], item["place"], *place.places[dataset + 1 :])
            place = replace(place, sequences=place.sequences + 1, places=places)
            yield {**item, "place": place, "dataset": dataset}
