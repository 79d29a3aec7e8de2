"""Blocks of tokens made from the rows while a run trains on them: for what does not fit the disk.

A run has a number of streams: one for each dataloader worker of each process. A stream reads its share of the files in
an order drawn from the seed, one pass over the rows after another; gathers `shuffle_buffer` documents, shuffles them,
and packs them into blocks. Such a window of documents is a function of the place where it begins. So the place of a
block is a few numbers, whatever the buffer holds: a resumed stream reads the one window again that it was stopped in.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from train.data.files.shard_access import at_hand
from train.data.files.shard_reading import PAST_THE_END, BadShardError, Piece, RowBatch, read_piece
from train.data.files.sources import Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.documents import Document, documents_of
from train.data.sequences.packing import TOKEN_DTYPE, count_cut, pack_best_fit


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a stream is: the beginning of a window, and a block in it.

    Args:
        passes: over all rows that are complete.
        piece: the number of the piece in the order of this pass.
        row: where in the piece the window begins (a `RowBatch.next_place`); `None` for the piece's beginning.
        rest: tokens of the window before that did not fill a block.
        block: blocks of this window that are used.
        windows: windows before this one; the seed of its shuffling.
    """

    passes: int = 0
    piece: int = 0
    row: int | None = None
    rest: tuple[int, ...] = ()
    block: int = 0
    windows: int = 0


@dataclass(frozen=True)
class StreamSettings:
    """What decides the blocks of all streams, and their order.

    Args:
        streams: of the whole run.
        folder: where Hub files are kept while they are read.
    """

    source: Source
    choice: RowFilter
    sequence_length: int
    packing: str
    shuffle_buffer: int
    skip_broken: bool
    seed: int
    streams: int
    folder: Path


class StreamedSequences(IterableDataset):
    """The streams of one process, endless; each of its dataloader's workers runs one.

    The k-th batch of a process comes from its stream k mod (streams of the process), as dataloader workers take turns:
    so the batches are the same whether they come from workers or processes, and a run can go on with another number of
    either, as long as the product is the same.

    Every item has, beside `input_ids` (sequence_length,), its `stream`, the `place` after it, and, with the first of a
    window, the `statistics` of the rows read for it.

    Args:
        process, processes: which of how many.
        batches_before: batches that this process has used.
        places: of its streams; a stream that is not named begins at the beginning.
    """

    def __init__(
        self,
        settings: StreamSettings,
        tokenizer: PreTrainedTokenizerBase,
        process: int = 0,
        processes: int = 1,
        batches_before: int = 0,
        places: dict[int, Place] | None = None,
    ):
        self.settings = settings
        self.tokenizer = tokenizer
        self.process, self.processes = process, processes
        self.batches_before = batches_before
        self.places = dict(places or {})

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        assert self.settings.streams == self.processes * workers
        stream = self.process + self.processes * ((self.batches_before + turn) % workers)
        yield from self.blocks_of(stream)

    def blocks_of(self, stream: int) -> Iterator[dict]:
        """One stream, from its place on.

        Raises:
            ValueError: a whole pass holds no usable row.
            BadShardError: a file cannot be read, and `skip_broken` is not set.
        """
        place = self.places.get(stream, Place())
        while True:
            gave_blocks = False
            rest, windows = place.rest, place.windows
            uncounted = DatasetStatistics()  # of windows too small for a block
            for beginning, documents, statistics in self._windows(stream, place):
                window = replace(beginning, rest=rest)
                blocks, after = self._pack(documents, stream, window, statistics)
                uncounted.add(statistics)
                for number, block in enumerate(blocks):
                    if number >= window.block:
                        gave_blocks = True
                        item = {"input_ids": block, "stream": stream, "place": replace(window, block=number + 1)}
                        yield {**item, "statistics": uncounted if number == 0 else None}
                    uncounted = DatasetStatistics()
                rest, windows = tuple(after.tolist()), window.windows + 1
            if not gave_blocks and not place.block:
                raise ValueError(
                    f"A pass over the rows of stream {stream} (of {self.settings.streams}) gives no block of training "
                    "tokens: give more rows, or fewer processes and workers."
                )
            place = Place(place.passes + 1, rest=rest, windows=windows)

    def _windows(self, stream: int, start: Place) -> Iterator[tuple[Place, list[Document], DatasetStatistics]]:
        """The documents of each window of one pass, with the place where it begins.

        A window ends where its documents fill the buffer, and at the end of the pass.
        """
        order = self._order(stream, start.passes)
        begin, documents, statistics = start, list[Document](), DatasetStatistics()
        for number in range(start.piece, len(order)):
            batches = self._read(order[number], start.row if number == start.piece else None, stream)
            for batch, found, counts in documents_of(batches, self.settings.choice, self.tokenizer, ("train",)):
                statistics.add(counts)
                documents += [document for document in found for _ in range(document.times)]
                if len(documents) >= self.settings.shuffle_buffer:
                    yield begin, documents, statistics
                    begin = Place(begin.passes, number, batch.next_place, windows=begin.windows + 1)
                    documents, statistics = [], DatasetStatistics()
        if documents or statistics.rows_read or statistics.skipped_shards:
            yield begin, documents, statistics

    def _read(self, piece: Piece, row: int | None, stream: int) -> Iterator[RowBatch]:
        shard = self.settings.source.shards[piece.shard]
        try:
            with at_hand(shard, self.settings.folder / f"stream-{stream}") as path:
                yield from read_piece(path, str(shard), piece, row)
        except BadShardError as error:
            if not self.settings.skip_broken:
                raise
            logger.warning("Skipped: %s", error)
            yield RowBatch([], {}, PAST_THE_END, 0, [str(error)])

    def _order(self, stream: int, passes: int) -> list[Piece]:
        """The stream's pieces in a pass: every streams-th of all, in an order drawn anew for each pass."""
        settings = self.settings
        shards = len(settings.source.shards)
        parts = math.ceil(settings.streams / shards)  # so that each stream has one
        pieces = [Piece(shard, part, parts) for shard in range(shards) for part in range(parts)]
        order = np.random.default_rng((settings.seed, passes)).permutation(len(pieces))
        return [pieces[number] for number in order[stream :: settings.streams]]

    def _pack(
        self, documents: list[Document], stream: int, window: Place, statistics: DatasetStatistics
    ) -> tuple[np.ndarray, np.ndarray]:
        """The shuffled documents as blocks, and the tokens that are left."""
        settings = self.settings
        rest = np.array(window.rest, TOKEN_DTYPE)
        random = np.random.default_rng((settings.seed, stream, window.windows))
        shuffled = [documents[number].token_ids for number in random.permutation(len(documents))]
        if settings.packing == "best_fit":
            blocks, cut = pack_best_fit(shuffled, settings.sequence_length, self.tokenizer.eos_token_id)
            blocks = blocks[random.permutation(len(blocks))]  # which are ordered by their longest document
            statistics.cut_documents["train"] += cut
            statistics.padding_tokens["train"] += blocks.size - sum(map(len, shuffled))
            return blocks, rest
        lengths = np.array([len(token_ids) for token_ids in shuffled], np.int64)
        statistics.cut_documents["train"] += count_cut(lengths, len(rest), settings.sequence_length)
        tokens = np.concatenate([rest, *shuffled])
        whole = len(tokens) // settings.sequence_length * settings.sequence_length
        return tokens[:whole].reshape(-1, settings.sequence_length), tokens[whole:]
