"""From rows to sequences on disk, once: a preparation is found again by what made it, and one that was killed goes on
where it was."""

import hashlib
import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout

from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Row, article_key, seed_article
from train.data.sequences.chunk_pool import prepare_chunks
from train.data.sequences.chunks import ARTICLE_DTYPE, FinishedChunk, articles_file, chunk_lock, tokens_file
from train.data.sequences.packing import count_cut
from train.data.sequences.preparation import STATISTICS_FILE, Preparation
from train.data.sequences.prepared_sequences import PreparedSequences
from train.run_files import write_whole


SECONDS_BETWEEN_LOOKS = 1.0
CHUNKS_FILE = "chunks.json"


@dataclass(frozen=True)
class PreparedData:
    """Sequences of both parts, memory-mapped, and what became of the rows."""

    train: PreparedSequences
    validation: PreparedSequences
    statistics: DatasetStatistics
    folder: Path

    @property
    def article_files(self) -> list[Path]:
        """The keys of the articles that training rows touch."""
        return [file.with_name(articles_file("train")) for file in self.train.files]


def touch_articles(article_files: list[Path], rows: list[Row]) -> list[bool]:
    """For each row, whether its seed article is in one of these files of article keys."""
    asked = np.frombuffer(b"".join(article_key(seed_article(row)) for row in rows), ARTICLE_DTYPE).astype(np.uint64)
    found = np.zeros(len(rows), dtype=bool)
    for file in article_files:
        found |= np.isin(asked, _keys(file))
    return found.tolist()


def prepare_data(preparation: Preparation, processes: int = 1, writes: bool = True) -> PreparedData:
    """Tokenise and pack the rows, or find the sequences that an earlier run made of them.

    Args:
        writes: whether this process prepares what is not there. On each machine of a distributed run one does, and the
            others wait for its folder, however long that takes: a barrier would time out.

    Raises:
        ValueError: a file or an evaluation set cannot be read, or the rows do not fill a sequence of each part.
    """
    if writes and not preparation.is_whole:
        seal(preparation, prepare_chunks(preparation, processes))
    while not preparation.is_whole:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return load_prepared(preparation)


def load_prepared(preparation: Preparation) -> PreparedData:
    """Open a preparation that is whole; a `ValueError` where some of it has gone since."""
    folder, sequence_length = preparation.folder, preparation.settings.sequence_length
    chunks = [folder / "chunks" / name for name in json.loads((folder / CHUNKS_FILE).read_text())]
    names = {split: tokens_file(split, preparation.token_dtype) for split in preparation.splits}
    files = {split: [chunk / name for chunk in chunks] for split, name in names.items()}
    parts = {split: PreparedSequences(files.get(split, []), sequence_length) for split in SPLITS}
    statistics = DatasetStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text("utf-8")))
    if any(len(part) != statistics.sequences[split] for split, part in parts.items()):
        raise ValueError(f"{folder} has lost tokens since they were prepared: remove it, to prepare them again.")
    preparation.row_filter.warn_of_misspelt(statistics)
    return PreparedData(**parts, statistics=statistics, folder=folder)


def seal(preparation: Preparation, finished: list[FinishedChunk]) -> None:
    """Add up the chunks, which fill a sequence of each part, and write what says that the preparation is whole."""
    folder = preparation.folder
    statistics = add_up(preparation, finished)
    for split in preparation.splits:
        if not statistics.sequences[split]:
            raise ValueError(
                f"The {split} split holds {statistics.tokens[split]:,} tokens, less than one sequence of "
                f"{preparation.settings.sequence_length}: give more rows, a smaller --sequence_length, or another "
                f"--validation_fraction (now {preparation.row_filter.validation_fraction}).\n{statistics.render()}"
            )
    with chunk_lock(folder, "whole"):  # another run may have come as far at the same time
        if not preparation.is_whole:
            (folder / CHUNKS_FILE).write_text(json.dumps([chunk.folder.name for chunk in finished]))
            write_whole(folder / STATISTICS_FILE, json.dumps(statistics.to_dict(), indent=2))
        used = {chunk.folder for chunk in finished}
        for other in (folder / "chunks").iterdir():  # such as were cut at a limit that moved
            if other not in used:
                with suppress(Timeout), chunk_lock(folder, other.name, timeout=0):
                    shutil.rmtree(other)


def add_up(preparation: Preparation, finished: list[FinishedChunk]) -> DatasetStatistics:
    """The statistics of all chunks, with what only shows when they stand one after the other."""
    sequence_length = preparation.settings.sequence_length
    statistics = DatasetStatistics()
    for chunk in finished:
        if preparation.settings.packing == "concat":
            for split in preparation.splits:
                dtype = preparation.token_dtype
                tokens = np.fromfile(chunk.folder / tokens_file(split, dtype), dtype)
                ends = np.flatnonzero(tokens == preparation.tokenizer.eos_token_id) + 1
                statistics.cut_documents[split] += count_cut(ends, statistics.tokens[split], sequence_length)
        statistics.add(chunk.statistics)
    for split in preparation.splits:
        total = statistics.tokens[split] + statistics.padding_tokens[split]
        statistics.sequences[split], statistics.left_over_tokens[split] = divmod(total, sequence_length)
        digests = "".join(chunk.statistics.sha256[split] for chunk in finished)
        statistics.sha256[split] = hashlib.sha256(digests.encode()).hexdigest()
    if len(preparation.splits) > 1:
        statistics.shared_articles = _count_shared_articles([chunk.folder for chunk in finished])
    return statistics


def _count_shared_articles(folders: list[Path]) -> int:
    """Articles that rows of both parts touch; the validation ones, which are few, are held in memory."""
    validation = np.unique(np.concatenate([_keys(folder / articles_file("validation")) for folder in folders]))
    shared = np.zeros(len(validation), dtype=bool)
    for folder in folders:
        shared |= np.isin(validation, _keys(folder / articles_file("train")))
    return int(shared.sum())


def _keys(file: Path) -> np.ndarray:
    return np.fromfile(file, ARTICLE_DTYPE).astype(np.uint64)  # np.isin fails at some of another byte order
