"""One piece of a source to tokens on disk: a function of the rows and the settings alone, so pieces can be prepared
apart, in any order, by any number of processes and machines, and equal one preparation."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from train.data.files.shard_reading import Piece, read_piece
from train.data.rows.row_filter import RowFilter
from train.data.rows.row_limit import NO_LIMIT, Limit, up_to
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Split
from train.data.sequences.documents import Document, documents_of
from train.data.sequences.packing import TOKEN_DTYPE, pack_best_fit


STATISTICS_FILE = "statistics.json"
UNFINISHED = ".unfinished"  # at the end of a folder's name
LENGTH_DTYPE = np.dtype("<u4")
ARTICLE_DTYPE = np.dtype(">u8")

Report = Callable[[int, int, int], None]  # bytes of the source, rows, tokens


@dataclass(frozen=True)
class PieceSettings:
    """What pieces are made with, the same for all of a preparation.

    Args:
        folder: of the preparation; pieces lie in `folder/pieces`.
        skip_broken: count what cannot be read as skipped, in place of stopping.
        splits: only documents of these parts are written.
    """

    folder: Path
    sequence_length: int
    packing: str
    skip_broken: bool = False
    splits: tuple[Split, ...] = SPLITS  # type: ignore[assignment]


class NotPreparedError(FileNotFoundError):
    """A piece is not there yet."""


def piece_folder(settings: PieceSettings, piece: Piece, limit: Limit = NO_LIMIT) -> Path:
    """Where a piece lies; one that ends at a limit has that in its name."""
    end = "".join(f"-{kind}-{n}" for kind, n in (("rows", limit.rows), ("tokens", limit.tokens)) if n is not None)
    return settings.folder / "pieces" / f"{piece.name}{end}"


def piece_lock(settings: PieceSettings, name: str, timeout: float = -1) -> FileLock:
    """Held by whoever writes or removes a piece, at whatever limit; `name` is that of any of its folders."""
    locks = settings.folder / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    piece = "-".join(name.removesuffix(UNFINISHED).split("-")[:4])
    return FileLock(locks / f"{piece}.lock", timeout)


def load_statistics(folder: Path) -> DatasetStatistics:
    """A finished piece's statistics.

    Raises:
        NotPreparedError: it is not finished.
    """
    try:
        return DatasetStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise NotPreparedError(folder) from error


def prepare_piece(
    settings: PieceSettings,
    piece: Piece,
    path: Path,
    name: str,
    choice: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    report: Report,
) -> tuple[Path, DatasetStatistics]:
    """Write a piece, unless it is there; returns where it lies, and its statistics.

    It appears whole, by a rename. Whoever is killed leaves an unfinished folder, which the next one removes.

    Args:
        path: the file that the piece is of, at hand.
        name: what to call it in messages.

    Raises:
        BadShardError: the file cannot be read.
    """
    whole, limited = piece_folder(settings, piece), piece_folder(settings, piece, limit)
    with piece_lock(settings, piece.name):
        for folder in (limited, whole):
            if folder.exists() and (folder == limited or not limit.reached_by(load_statistics(folder))):
                return folder, load_statistics(folder)
        unfinished = limited.with_name(f"{limited.name}{UNFINISHED}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        statistics = _write(unfinished, settings, piece, path, name, choice, tokenizer, limit, report)
        (unfinished / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2), encoding="utf-8")
        folder = limited if limit.reached_by(statistics) else whole
        os.replace(unfinished, folder)
        return folder, statistics


def skip_piece(settings: PieceSettings, piece: Piece, reason: str) -> tuple[Path, DatasetStatistics]:
    """Write a piece without rows in place of one that cannot be read, unless it is there."""
    folder = piece_folder(settings, piece)
    with piece_lock(settings, piece.name):
        if folder.exists():
            return folder, load_statistics(folder)
        unfinished = folder.with_name(f"{folder.name}{UNFINISHED}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        statistics = DatasetStatistics(skipped_shards=[f"part {piece.part + 1} of {piece.parts}: {reason}"])
        for split in settings.splits:
            _SplitWriter(unfinished, split, settings, end_of_text=0).close(statistics)
        (unfinished / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2), encoding="utf-8")
        os.replace(unfinished, folder)
        return folder, statistics


def _write(
    folder: Path,
    settings: PieceSettings,
    piece: Piece,
    path: Path,
    name: str,
    choice: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    report: Report,
) -> DatasetStatistics:
    statistics = DatasetStatistics()
    writers = {split: _SplitWriter(folder, split, settings, tokenizer.eos_token_id) for split in settings.splits}
    repeated: list[Document] = []
    batches = up_to(limit, read_piece(path, name, piece), statistics, choice.most_times)
    for batch, documents, counts in documents_of(batches, choice, tokenizer, settings.splits):
        statistics.add(counts)
        for document in documents:
            writers[document.split].add(document)
            repeated += [document] * (document.times - 1)
        report(batch.bytes, len(batch.rows), sum(len(document.token_ids) for document in documents))
    for document in repeated:  # away from their first use, so that a block does not hold the same text twice
        writers[document.split].add(document, with_articles=False)
    for writer in writers.values():
        writer.close(statistics)
    return statistics


class _SplitWriter:
    """Files of one part: tokens, and for each document its length and the articles that it touches."""

    def __init__(self, folder: Path, split: Split, settings: PieceSettings, end_of_text: int):
        self.split = split
        self.settings = settings
        self.end_of_text = end_of_text
        # Closed by close(); a writer that is given up leaves files that nobody reads.
        self.tokens = open(folder / tokens_file(split), "wb")  # noqa: SIM115
        self.lengths = open(folder / lengths_file(split), "wb")  # noqa: SIM115
        self.articles = open(folder / articles_file(split), "wb")  # noqa: SIM115
        self.sha256 = hashlib.sha256()
        self.to_pack: list[np.ndarray] = []

    def add(self, document: Document, with_articles: bool = True) -> None:
        if self.settings.packing == "concat":
            self._write(document.token_ids)
        else:
            self.to_pack.append(document.token_ids)
        self.lengths.write(np.array([len(document.token_ids)], LENGTH_DTYPE).tobytes())
        if with_articles:
            self.articles.write(document.article_keys)

    def close(self, statistics: DatasetStatistics) -> None:
        """Write what is left, flush all to the disk, and note counts and hash."""
        if self.to_pack:
            blocks, cut = pack_best_fit(self.to_pack, self.settings.sequence_length, self.end_of_text)
            self._write(blocks)
            statistics.cut_documents[self.split] = cut
            statistics.padding_tokens[self.split] = blocks.size - sum(map(len, self.to_pack))
        statistics.sha256[self.split] = self.sha256.hexdigest()
        for file in (self.tokens, self.lengths, self.articles):
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def _write(self, token_ids: np.ndarray) -> None:
        content = token_ids.astype(TOKEN_DTYPE, copy=False).tobytes()
        self.sha256.update(content)
        self.tokens.write(content)


def tokens_file(split: str) -> str:
    return f"{split}.tokens.u16"


def lengths_file(split: str) -> str:
    return f"{split}.lengths.u32"


def articles_file(split: str) -> str:
    return f"{split}.articles.u64"
