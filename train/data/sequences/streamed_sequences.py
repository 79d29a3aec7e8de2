"""Sequences of tokens made from the rows while a run trains on them: for what does not fit the disk.

A run has a number of streams of each dataset: one for each dataloader worker of each process. A stream reads its share
of the files in an order drawn from the seed, one pass over the rows after another; gathers `shuffle_buffer` documents,
shuffles them, and packs them into sequences. Such a window of documents depends on nothing but the place where it
begins. So the place of a sequence is a few numbers, whatever the buffer holds: a resumed stream reads again the one
window that it was stopped in.

The streams of several datasets are one: each sequence is of the dataset whose turn it is by its weight.
"""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from train.data.files.chunk import Chunk, RowBatch
from train.data.files.shard_access import read_shard
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.documents import Document, documents_of
from train.data.sequences.left_out import LeftOut
from train.data.sequences.packing import count_cut, pack_best_fit
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepared_sequences import apportion, interleaved, to_shares


PERIOD = 2**30  # sequences after which the turns begin anew; in them, each dataset has its share exactly


@dataclass(frozen=True)
class Place:
    """Where a stream is: the beginning of a window, and a sequence in it."""

    passes: int = 0  # over all rows that are complete
    chunk: int = 0  # the number of the chunk in the order of this pass
    row: int | None = None  # where in the chunk the window begins (a `RowBatch.next_place`); `None`: at its beginning
    rest: tuple[int, ...] = ()  # tokens of the window before that did not fill a sequence
    sequence: int = 0  # sequences of this window that are used
    windows: int = 0  # windows before this one; the seed of its shuffling


@dataclass(frozen=True)
class StreamedSequences:
    """The streams of a dataset, endless.

    Every item has, beside `input_ids` (sequence_length,), its `stream`, the `place` after it, and, with the first of a
    window, the `statistics` of the rows read for it.
    """

    preparation: Preparation
    shuffle_buffer: int  # documents of a window
    seed: int
    streams: int = 1  # of the whole run
    process: int = 0

    def sequences_of(self, stream: int, place: Place = Place()) -> Iterator[dict]:
        """One stream, from a place on.

        Raises:
            ValueError: a whole pass holds no usable row.
            BadShardError: a file cannot be read, and `skip_broken` is not set.
        """
        while True:
            gave_sequences = False
            rest, windows = place.rest, place.windows
            uncounted = DatasetStatistics()  # of windows too small for a sequence
            for beginning, documents, statistics in self._windows(stream, place):
                window = replace(beginning, rest=rest)
                sequences, after = self._pack(documents, stream, window, statistics)
                uncounted.add(statistics)
                for number, sequence in enumerate(sequences):
                    if number >= window.sequence:
                        gave_sequences = True
                        item = {"input_ids": sequence, "stream": stream, "place": replace(window, sequence=number + 1)}
                        yield {**item, "statistics": uncounted if number == 0 else None}
                    uncounted = DatasetStatistics()
                rest, windows = tuple(after.tolist()), window.windows + 1
            if not gave_sequences and not place.sequence:
                raise ValueError(
                    f"A pass over the rows of {self.preparation.source.name} in stream {stream} (of {self.streams}) "
                    "gives no sequence of training tokens: give more rows, or fewer processes and workers."
                )
            place = Place(place.passes + 1, rest=rest, windows=windows)

    def _windows(self, stream: int, start: Place) -> Iterator[tuple[Place, list[Document], DatasetStatistics]]:
        """Where each window of one pass begins, and its documents: they fill the buffer, or end the pass."""
        row_filter, tokenizer = self.preparation.row_filter, self.preparation.tokenizer
        order = self._order(stream, start.passes)
        left_out = LeftOut(self.preparation)
        begin, documents, statistics = start, list[Document](), DatasetStatistics()
        for number in range(start.chunk, len(order)):
            batches = self._read(order[number], start.row if number == start.chunk else None, stream)
            for batch, found, counts in documents_of(batches, row_filter, tokenizer, ("train",), left_out):
                statistics.add(counts)
                documents += [document for document in found for _ in range(document.times)]
                if len(documents) >= self.shuffle_buffer:
                    yield begin, documents, statistics
                    begin = Place(begin.passes, number, batch.next_place, windows=begin.windows + 1)
                    documents, statistics = [], DatasetStatistics()
        if documents or statistics.rows_read or statistics.skipped_shards:
            yield begin, documents, statistics

    def _read(self, chunk: Chunk, row: int | None, stream: int) -> Iterator[RowBatch]:
        # Kept apart from those of other processes and streams, which may read the same file.
        fetched = self.preparation.folder / "fetched" / f"process-{self.process}" / f"stream-{stream}"
        shard = self.preparation.source.shards[chunk.shard]
        columns = self.preparation.row_filter.schema.columns
        try:
            yield from read_shard(shard, chunk, columns, fetched, row, self.preparation.settings.skip_broken)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)

    def _order(self, stream: int, passes: int) -> list[Chunk]:
        """The stream's chunks in a pass: every streams-th of all, in an order drawn anew for each pass."""
        shards = len(self.preparation.source.shards)
        parts = math.ceil(self.streams / shards)  # so that each stream has one
        chunks = [Chunk(shard, part, parts) for shard in range(shards) for part in range(parts)]
        order = np.random.default_rng((self.seed, passes)).permutation(len(chunks))
        return [chunks[number] for number in order[stream :: self.streams]]

    def _pack(
        self, documents: list[Document], stream: int, window: Place, statistics: DatasetStatistics
    ) -> tuple[np.ndarray, np.ndarray]:
        """The shuffled documents as sequences, and the tokens that are left."""
        settings = self.preparation.settings
        rest = np.array(window.rest, self.preparation.token_dtype)
        random = np.random.default_rng((self.seed, stream, window.windows))
        shuffled = [documents[number].token_ids for number in random.permutation(len(documents))]
        if settings.packing == "best_fit":
            sequences, cut = pack_best_fit(shuffled, settings.sequence_length, self.preparation.tokenizer.eos_token_id)
            sequences = sequences[random.permutation(len(sequences))]  # which are ordered by their longest document
            statistics.cut_documents["train"] += cut
            statistics.padding_tokens["train"] += sequences.size - sum(map(len, shuffled))
            return sequences, rest
        ends = np.cumsum([len(token_ids) for token_ids in shuffled])
        statistics.cut_documents["train"] += count_cut(ends, len(rest), settings.sequence_length)
        tokens = np.concatenate([rest, *shuffled])
        whole = len(tokens) // settings.sequence_length * settings.sequence_length
        return tokens[:whole].reshape(-1, settings.sequence_length), tokens[whole:]


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
