"""From a source of rows to blocks on disk, once: tokenised data is cached and found again by what made it."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from train.arguments import DataArguments
from train.data.ledger import Ledger
from train.data.packing import BlockWriter, open_blocks
from train.data.sources import Source, find_source
from train.data.synth import Row, article_key, is_validation_row, reason_to_drop, row_to_text, seed_article


# Part of the fingerprint: raise it when the same rows and settings would give other blocks.
FORMAT_VERSION = 2
SECONDS_BETWEEN_LOOKS = 1.0
ROWS_PER_BATCH = 1000  # tokenised together: the tokenizer works on a batch with all cores
SPLITS = ("train", "validation")
# The keys of the training rows' seed articles, eight bytes each: they tell later what the model has been taught about.
ARTICLES_FILE = "train_articles.u64"
ARTICLE_DTYPE = np.dtype(">u8")


@dataclass(frozen=True)
class PreparedData:
    """Blocks of both splits, memory-mapped, and what became of the rows."""

    train: Dataset
    validation: Dataset
    ledger: Ledger
    source: Source
    folder: Path

    def trained_on_article(self, rows: list[Row]) -> list[bool]:
        """For each row, whether some training row was grown from the same seed article."""
        trained = np.memmap(self.folder / ARTICLES_FILE, dtype=ARTICLE_DTYPE, mode="r")
        asked = np.frombuffer(b"".join(article_key(seed_article(row)) for row in rows), dtype=ARTICLE_DTYPE)
        return np.isin(asked, trained).tolist()


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
    if writes and not folder.exists():
        _write_blocks(folder, arguments, source, tokenizer)
    while not folder.exists():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return load_prepared(folder, source)


def load_prepared(folder: Path, source: Source) -> PreparedData:
    """Open a folder that `prepare_data` wrote."""
    train, validation = (open_blocks(folder / f"{split}.arrow") for split in SPLITS)
    ledger = Ledger.from_dict(json.loads((folder / "ledger.json").read_text()))
    return PreparedData(train, validation, ledger, source, folder)


def cache_folder(arguments: DataArguments, source: Source, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where the blocks lie: named by a hash of everything that decides their content."""
    made_from = {
        "format": FORMAT_VERSION,
        "source": source.fingerprint(),
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "languages": arguments.languages,
        "exercises": arguments.exercises,
        "max_samples": arguments.max_samples,
        "block_size": arguments.block_size,
        "validation_fraction": arguments.validation_fraction,
        "split_seed": arguments.split_seed,
    }
    fingerprint = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    root = arguments.data_cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "gpt2scratch"
    return Path(root).expanduser() / fingerprint


def _write_blocks(folder: Path, arguments: DataArguments, source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write to a temporary folder and rename it when it is whole, so a killed preparation is never taken for one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.unfinished.", dir=folder.parent))
    try:
        ledger = Ledger()
        with (
            BlockWriter(unfinished / "train.arrow", arguments.block_size) as train_writer,
            BlockWriter(unfinished / "validation.arrow", arguments.block_size) as validation_writer,
            open(unfinished / ARTICLES_FILE, "wb") as articles,
        ):
            writers = {"train": train_writer, "validation": validation_writer}
            for rows, token_ids in _tokenise_ahead(_usable_rows(arguments, source, ledger), tokenizer):
                splits = _split_rows(rows, arguments)
                _write_rows(rows, splits, token_ids, tokenizer.eos_token_id, writers, ledger)
                for row, split in zip(rows, splits, strict=True):
                    if split == "train":
                        articles.write(article_key(seed_article(row)))
        for split, writer in writers.items():
            ledger.blocks[split] = writer.blocks_written
            ledger.left_over_tokens[split] = writer.left_over_tokens
            ledger.sha256[split] = writer.sha256
        _check_enough(ledger, arguments)
        (unfinished / "ledger.json").write_text(json.dumps(ledger.to_dict(), indent=2))
        try:
            os.replace(unfinished, folder)
        except OSError:
            if not folder.exists():  # else another run has prepared the same data meanwhile
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _usable_rows(arguments: DataArguments, source: Source, ledger: Ledger) -> Iterator[list[Row]]:
    """Batches of rows that pass the filters, up to `max_samples` in all; the others are counted by reason."""
    kept = 0
    rows_total = source.count_rows()
    with tqdm(total=rows_total, desc=f"Tokenising {source.name}", unit=" rows", unit_scale=True) as progress:
        for batch in source.open().iter(batch_size=ROWS_PER_BATCH):
            usable = []
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                ledger.rows_read += 1
                reason = reason_to_drop(row, arguments.languages, arguments.exercises)
                if reason is not None:
                    ledger.dropped_rows[reason] += 1
                    continue
                usable.append(row)
                kept += 1
                if kept == arguments.max_samples:
                    break
            yield usable
            progress.update(ledger.rows_read - progress.n)
            progress.set_postfix(kept=f"{kept:,}", tokens=f"{sum(ledger.tokens.values()):,}")
            if kept == arguments.max_samples:
                return


def _split_rows(rows: list[Row], arguments: DataArguments) -> list[str]:
    """The split of each row."""
    return [
        "validation" if is_validation_row(row, arguments.validation_fraction, arguments.split_seed) else "train"
        for row in rows
    ]


def _tokenise_ahead(
    batches: Iterable[list[Row]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[Row], list[list[int]]]]:
    """Each batch with its token ids; the next one is tokenised, by all cores, while this one is being written."""

    def tokenise(rows: list[Row]) -> list[list[int]]:
        # split_special_tokens: the characters <|endoftext|> in a row stay text, and cannot end a document.
        texts = [row_to_text(row) for row in rows]
        return tokenizer(texts, split_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]

    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead: tuple[list[Row], Future] | None = None
        for rows in filter(None, batches):
            before, ahead = ahead, (rows, thread.submit(tokenise, rows))
            if before is not None:
                yield before[0], before[1].result()
        if ahead is not None:
            yield ahead[0], ahead[1].result()


def _write_rows(
    rows: list[Row],
    splits: list[str],
    token_ids: list[list[int]],
    end_of_text: int,
    writers: dict[str, BlockWriter],
    ledger: Ledger,
) -> None:
    """Hand each row of a batch to its split's writer."""
    for row, split, row_ids in zip(rows, splits, token_ids, strict=True):
        row_ids.append(end_of_text)
        writers[split].add(row_ids)
        ledger.kept_rows[split] += 1
        ledger.tokens[split] += len(row_ids)
        ledger.rows_by_exercise[row["exercise"]] += 1
        ledger.rows_by_language[row["language"]] += 1


def _check_enough(ledger: Ledger, arguments: DataArguments) -> None:
    for split in SPLITS:
        if not ledger.blocks[split]:
            raise ValueError(
                f"The {split} split holds {ledger.tokens[split]:,} tokens, less than one block of "
                f"{arguments.block_size}: give more rows, a smaller --block_size, or another --validation_fraction "
                f"(now {arguments.validation_fraction}).\n{ledger.render()}"
            )
