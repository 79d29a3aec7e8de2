"""One chunk of a source as tokens on disk.

It depends on its rows and the settings alone, so chunks that are prepared apart, in any order, by any number of
processes and machines, equal one preparation.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from train.data.files.chunk import Chunk, RowBatch
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import Split
from train.data.sequences.documents import Document, documents_of
from train.data.sequences.left_out import LeftOut, articles_file
from train.data.sequences.packing import pack_best_fit
from train.data.sequences.preparation import STATISTICS_FILE, Limit, Preparation


UNFINISHED = ".unfinished"  # at the end of a folder's name


@dataclass(frozen=True)
class FinishedChunk:
    folder: Path
    statistics: DatasetStatistics


def chunk_lock(folder: Path, name: str, timeout: float = -1) -> FileLock:
    """Held by whoever writes or removes a chunk of a preparation's folder, at whatever limit."""
    locks = folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    chunk = "-".join(name.removesuffix(UNFINISHED).split("-")[:4])
    return FileLock(locks / f"{chunk}.lock", timeout)


def prepare_chunk(preparation: Preparation, chunk: Chunk, batches: Iterable[RowBatch], left: Limit) -> FinishedChunk:
    """Write a chunk, unless it is there.

    It appears whole, by a rename. Whoever is killed leaves an unfinished folder, which the next one removes.

    Args:
        batches: its rows; not read where the chunk is there.
        left: what may still be prepared. A chunk that ends at a limit has it in its name.

    Raises:
        BadShardError: the rows cannot be read.
    """
    whole = preparation.folder / "chunks" / chunk.name
    cut = whole.with_name(whole.name + "".join(f"-{key}-{n}" for key, n in vars(left).items() if n != math.inf))
    with chunk_lock(preparation.folder, chunk.name):
        for folder in (cut, whole):
            if folder.exists():
                statistics = DatasetStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text("utf-8")))
                if folder == cut or not left.after(statistics).is_reached:
                    return FinishedChunk(folder, statistics)
        unfinished = cut.with_name(cut.name + UNFINISHED)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        statistics = _write(unfinished, preparation, LeftOut.of_chunk(preparation, chunk), batches, left)
        (unfinished / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2), "utf-8")
        folder = cut if left.after(statistics).is_reached else whole
        os.replace(unfinished, folder)
        return FinishedChunk(folder, statistics)


def _write(
    folder: Path, preparation: Preparation, left_out: LeftOut, batches: Iterable[RowBatch], left: Limit
) -> DatasetStatistics:
    row_filter, tokenizer, splits = preparation.row_filter, preparation.tokenizer, preparation.splits
    statistics = DatasetStatistics()
    writers = {split: _SplitWriter(folder, split, preparation) for split in splits}
    repeated: list[Document] = []
    for _, documents, counts in documents_of(batches, row_filter, tokenizer, splits, left_out):
        statistics.add(counts)
        for document in documents:
            writers[document.split].add(document)
            writers[document.split].articles.write(document.article_keys)
            repeated += [document] * (document.times - 1)
        if left.after(statistics).is_reached:
            break
    for document in repeated:  # away from their first use, so that a sequence does not hold the same text twice
        writers[document.split].add(document)
    for writer in writers.values():
        writer.close(statistics)
    return statistics


class _SplitWriter:
    """Files of one part: tokens, and for each document the articles that it touches."""

    def __init__(self, folder: Path, split: Split, preparation: Preparation):
        self.split = split
        self.settings = preparation.settings
        self.end_of_text = preparation.tokenizer.eos_token_id
        self.dtype = preparation.token_dtype
        # Closed by close(); a writer that is given up leaves files that nobody reads.
        self.tokens = open(folder / tokens_file(split, self.dtype), "wb")  # noqa: SIM115
        self.articles = open(folder / articles_file(split), "wb")  # noqa: SIM115
        self.sha256 = hashlib.sha256()
        self.to_pack: list[np.ndarray] = []

    def add(self, document: Document) -> None:
        if self.settings.packing == "concat":
            self._write(document.token_ids)
        else:
            self.to_pack.append(document.token_ids)

    def close(self, statistics: DatasetStatistics) -> None:
        """Write what is left, flush all to the disk, and note counts and hash."""
        if self.to_pack:
            sequences, cut = pack_best_fit(self.to_pack, self.settings.sequence_length, self.end_of_text)
            self._write(sequences)
            statistics.cut_documents[self.split] = cut
            statistics.padding_tokens[self.split] = sequences.size - sum(map(len, self.to_pack))
        statistics.sha256[self.split] = self.sha256.hexdigest()
        for file in (self.tokens, self.articles):
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def _write(self, token_ids: np.ndarray) -> None:
        content = token_ids.astype(self.dtype, copy=False).tobytes()
        self.sha256.update(content)
        self.tokens.write(content)


def tokens_file(split: str, dtype: np.dtype) -> str:
    return f"{split}.tokens.u{8 * dtype.itemsize}"
