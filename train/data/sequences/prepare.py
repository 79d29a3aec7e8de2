"""From rows to sequences on disk, once: a preparation is found again by what made it, and one that was killed goes on
where it was."""

import hashlib
import json
import logging
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import Timeout

from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Row, seed_article
from train.data.sequences.chunk_pool import prepare_chunks
from train.data.sequences.chunks import FinishedChunk, chunk_lock, tokens_file
from train.data.sequences.duplicates import find_duplicates
from train.data.sequences.left_out import KEY_DTYPE, articles_file, articles_files, is_among, unique_keys
from train.data.sequences.packing import count_cut
from train.data.sequences.preparation import CHUNKS_FILE, STATISTICS_FILE, Preparation
from train.data.sequences.prepared_sequences import PreparedSequences
from train.run_files import write_whole


logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0
MANY_ARTICLES = 10_000_000  # of a validation set; each process holds a key of eight bytes


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


def touch_articles(files: list[Path], rows: list[Row]) -> list[bool]:
    """For each row, whether its seed article is in one of these files of article keys."""
    articles = [seed_article(row) for row in rows]
    found = np.zeros(len(rows), dtype=bool)
    for file in files:
        found |= is_among(articles, unique_keys([file]))
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
        seal(preparation, prepare_files(preparation, processes))
    while not preparation.is_whole:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    data = load_prepared(preparation)
    preparation.row_filter.warn_of_misspelt(data.statistics)
    return data


def prepare_files(preparation: Preparation, processes: int, shards: range | None = None) -> list[FinishedChunk]:
    """As `prepare_chunks`, after what all of them need: the validation set that is named apart, and the duplicates."""
    validation = preparation.validation
    if validation is not None and not validation.is_whole:
        seal(validation, prepare_files(validation, processes))
    if preparation.drop_duplicates:
        find_duplicates(preparation, processes, shards)
    return prepare_chunks(preparation, processes, shards)


def load_prepared(preparation: Preparation) -> PreparedData:
    """Open a preparation that is whole; a `ValueError` where some of it has gone since."""
    folder, sequence_length = preparation.folder, preparation.settings.sequence_length
    names = {split: tokens_file(split, preparation.token_dtype) for split in preparation.splits}
    files = {split: [chunk / name for chunk in preparation.chunk_folders] for split, name in names.items()}
    parts = {split: PreparedSequences(files.get(split, []), sequence_length) for split in SPLITS}
    statistics = DatasetStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text("utf-8")))
    if any(len(part) != statistics.sequences[split] for split, part in parts.items()):
        raise ValueError(f"{folder} has lost tokens since they were prepared: remove it, to prepare them again.")
    if preparation.validation is not None:
        apart = load_prepared(preparation.validation)
        if (articles := apart.statistics.articles["validation"]) > MANY_ARTICLES:
            logger.warning(
                "The validation set touches %s seed articles or texts, and each process holds a key of each, %d MB in "
                "all, to leave them out of the training rows: a smaller set would do.",
                *(f"{articles:,}", articles * KEY_DTYPE.itemsize / 1e6),
            )
        parts["validation"] = apart.validation
        statistics.add(apart.statistics)
        statistics.sha256 |= apart.statistics.sha256
    return PreparedData(**parts, statistics=statistics, folder=folder)


def seal(preparation: Preparation, finished: list[FinishedChunk]) -> None:
    """Add up the chunks, which fill a sequence of each part, and write what says that the preparation is whole."""
    folder = preparation.folder
    statistics = add_up(preparation, finished)
    for split in preparation.splits:
        if not statistics.sequences[split]:
            fraction = preparation.row_filter.validation_fraction
            dropped = ", ".join(f"{reason}: {rows:,}" for reason, rows in statistics.dropped_rows.most_common())
            raise ValueError(
                f"The {split} split holds {statistics.tokens[split]:,} tokens, less than one sequence of "
                f"{preparation.settings.sequence_length}: give more rows, "
                + (f"another --validation_fraction (now {fraction}), " if 0 < fraction < 1 else "")
                + f"or a smaller --sequence_length. Of {statistics.rows_read:,} rows of {preparation.source.name} "
                f"are dropped: {dropped or 'none'}."
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
    if "train" in preparation.splits:
        folders, apart = [chunk.folder for chunk in finished], preparation.validation
        statistics.shared_articles = _count_shared_articles(folders, apart.chunk_folders if apart else folders)
    return statistics


def _count_shared_articles(training: list[Path], validation: list[Path]) -> int:
    """Articles that rows of both parts touch; the validation ones, which are few, are held in memory."""
    held_out = unique_keys(articles_files(validation, "validation"))
    shared = np.zeros(len(held_out), dtype=bool)
    for file in articles_files(training, "train"):
        shared |= np.isin(held_out, unique_keys([file]))
    return int(shared.sum())
