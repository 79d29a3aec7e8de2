"""From a source of rows to blocks on disk, once: prepared data is found again by what made it, and a preparation that
was killed goes on where it was."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import datasets
import numpy as np
from filelock import Timeout
from transformers import PreTrainedTokenizerBase

from train.data.files.sources import Source, find_source
from train.data.rows.row_filter import RowFilter
from train.data.rows.row_limit import Limit
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Row, article_key, seed_article
from train.data.sequences.chunk_pool import FinishedPiece, prepare_pieces
from train.data.sequences.chunks import (
    ARTICLE_DTYPE,
    LENGTH_DTYPE,
    STATISTICS_FILE,
    PieceSettings,
    articles_file,
    lengths_file,
    piece_lock,
    tokens_file,
)
from train.data.sequences.packing import count_cut
from train.data.sequences.prepared_sequences import PreparedSequences
from train.run_files import write_whole
from train.settings.arguments import DataArguments


# Part of the fingerprint: raise it when the same rows and settings would give other blocks.
FORMAT_VERSION = 3
SECONDS_BETWEEN_LOOKS = 1.0
PIECES_FILE = "pieces.json"
# These say how the work is done or shown, and not what comes out.
NOT_IN_THE_BLOCKS = ("data_cache_dir", "dataset_num_proc", "max_eval_sequences", "streaming", "shuffle_buffer")


@dataclass(frozen=True)
class PreparedData:
    """Blocks of both splits, memory-mapped, and what became of the rows."""

    train: PreparedSequences
    validation: PreparedSequences
    statistics: DatasetStatistics
    source: Source
    folder: Path

    def trained_on_article(self, rows: list[Row]) -> list[bool]:
        """For each row, whether some training row touches its seed article."""
        asked = np.frombuffer(b"".join(article_key(seed_article(row)) for row in rows), ARTICLE_DTYPE).astype(np.uint64)
        found = np.zeros(len(rows), dtype=bool)
        for file in self.train.files:
            found |= np.isin(asked, _keys(file.with_name(articles_file("train"))))
        return found.tolist()


def prepare_data(arguments: DataArguments, tokenizer: PreTrainedTokenizerBase, writes: bool = True) -> PreparedData:
    """Tokenise and pack the rows that `arguments` ask for, or find the blocks that an earlier run made of them.

    Args:
        writes: whether this process prepares what is not there. On each machine of a distributed run one does, and the
            others wait for its folder, however long that takes: a barrier would time out.

    Raises:
        ValueError: the source cannot be read, or too few rows are left to fill a block of each split.
    """
    source = find_source(arguments.dataset, arguments.dataset_revision, arguments.dataset_split)
    folder = cache_folder(arguments, source, tokenizer)
    if writes and not is_prepared(folder):
        settings = PieceSettings(
            folder, arguments.sequence_length, arguments.packing, arguments.broken_shards == "skip"
        )
        limit = Limit(arguments.max_samples, arguments.max_tokens)
        choice = RowFilter.from_arguments(arguments)
        finished = prepare_pieces(settings, source, choice, tokenizer, arguments.dataset_num_proc, limit)
        seal(settings, finished, lambda statistics: _check_enough(statistics, arguments))
    while not is_prepared(folder):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return load_prepared(folder, source, arguments.sequence_length)


def prepare_validation(
    arguments: DataArguments, tokenizer: PreTrainedTokenizerBase, writes: bool = True
) -> PreparedData:
    """For a run that streams its training rows: the first `max_eval_sequences` of validation, and no others.

    Raises:
        ValueError: as `prepare_data`.
    """
    assert arguments.max_eval_sequences is not None
    source = find_source(arguments.dataset, arguments.dataset_revision, arguments.dataset_split)
    folder = cache_folder(arguments, source, tokenizer, validation_sequences=arguments.max_eval_sequences)
    if writes and not is_prepared(folder):
        settings = PieceSettings(
            folder, arguments.sequence_length, arguments.packing, arguments.broken_shards == "skip", ("validation",)
        )
        enough = arguments.max_eval_sequences * arguments.sequence_length
        finished = prepare_pieces(
            *(settings, source, RowFilter.from_arguments(arguments), tokenizer, arguments.dataset_num_proc, Limit()),
            is_enough=lambda statistics: statistics.tokens["validation"] >= enough,
        )
        seal(settings, finished, lambda statistics: _check_enough(statistics, arguments, ("validation",)))
    while not is_prepared(folder):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return load_prepared(folder, source, arguments.sequence_length)


def is_prepared(folder: Path) -> bool:
    return (folder / STATISTICS_FILE).exists()


def load_prepared(folder: Path, source: Source, sequence_length: int) -> PreparedData:
    """Open a folder that was sealed."""
    pieces = [folder / "pieces" / name for name in json.loads((folder / PIECES_FILE).read_text())]
    statistics = DatasetStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8")))
    files = {split: [piece / tokens_file(split) for piece in pieces] for split in SPLITS}
    train = [file for file in files["train"] if file.exists()]  # absent where only validation rows were prepared
    return PreparedData(
        PreparedSequences(train, sequence_length),
        PreparedSequences(files["validation"], sequence_length),
        statistics,
        source,
        folder,
    )


def cache_folder(
    arguments: DataArguments,
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    validation_sequences: int | None = None,
) -> Path:
    """Where the blocks lie: named by a hash of everything that decides their content."""
    made_from = {
        **{name: value for name, value in asdict(arguments).items() if name not in NOT_IN_THE_BLOCKS},
        "format": FORMAT_VERSION,
        "source": source.fingerprint(),
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "validation_sequences": validation_sequences,
        "evaluation_sets": [_sha256(Path(name).expanduser()) for name in arguments.decontaminate or []],
    }
    fingerprint = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    root = arguments.data_cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "gpt2scratch"
    return Path(root).expanduser() / fingerprint


def _sha256(file: Path) -> str | None:
    """Of its content; `None` where there is no such file (a task's name)."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def seal(settings: PieceSettings, finished: list[FinishedPiece], check: Callable[[DatasetStatistics], None]) -> None:
    """Add up the pieces, and write what says that the preparation is whole."""
    folder = settings.folder
    statistics = DatasetStatistics()
    digests = {split: hashlib.sha256() for split in settings.splits}
    tokens = dict.fromkeys(settings.splits, 0)
    for piece in finished:
        statistics.add(piece.statistics)
        for split, digest in digests.items():
            digest.update(piece.statistics.sha256[split].encode())
            if settings.packing == "concat":
                lengths = np.fromfile(piece.folder / lengths_file(split), LENGTH_DTYPE)
                statistics.cut_documents[split] += count_cut(lengths, tokens[split], settings.sequence_length)
            tokens[split] += piece.statistics.tokens[split] + piece.statistics.padding_tokens[split]
    for split in settings.splits:
        statistics.blocks[split], statistics.left_over_tokens[split] = divmod(tokens[split], settings.sequence_length)
        statistics.sha256[split] = digests[split].hexdigest()
    if len(settings.splits) > 1:
        statistics.shared_articles = _count_shared_articles([piece.folder for piece in finished])
    check(statistics)
    with piece_lock(settings, "whole"):  # another run may have come as far at the same time
        if not is_prepared(folder):
            (folder / PIECES_FILE).write_text(json.dumps([piece.folder.name for piece in finished]))
            write_whole(folder / STATISTICS_FILE, json.dumps(statistics.to_dict(), indent=2))
        used = {piece.folder for piece in finished}
        for other in (folder / "pieces").iterdir():  # such as were cut at a limit that moved
            if other not in used:
                with suppress(Timeout), piece_lock(settings, other.name, timeout=0):
                    shutil.rmtree(other)


def _count_shared_articles(folders: list[Path]) -> int:
    """Articles that rows of both splits touch; the held-out ones, which are few, are held in memory."""
    validation = np.unique(np.concatenate([_keys(folder / articles_file("validation")) for folder in folders]))
    shared = np.zeros(len(validation), dtype=bool)
    for folder in folders:
        shared |= np.isin(validation, _keys(folder / articles_file("train")))
    return int(shared.sum())


def _keys(file: Path) -> np.ndarray:
    return np.fromfile(file, ARTICLE_DTYPE).astype(np.uint64)  # np.isin fails at some of another byte order


def _check_enough(statistics: DatasetStatistics, arguments: DataArguments, splits: tuple[str, ...] = SPLITS) -> None:
    for split in splits:
        if not statistics.blocks[split]:
            raise ValueError(
                f"The {split} split holds {statistics.tokens[split]:,} tokens, less than one sequence of "
                f"{arguments.sequence_length}: give more rows, a smaller --sequence_length, or another "
                f"--validation_fraction (now {arguments.validation_fraction}).\n{statistics.render()}"
            )
