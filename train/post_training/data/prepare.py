"""From a source of rows to what a method trains on; under sft token ids on disk, found again by what made them."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from train.data.files.sources import Source, find_source
from train.data.rows.statistics import SPLITS
from train.errors import RunRefusedError
from train.post_training.data.data import PostTrainingData, RowStatistics
from train.post_training.data.encoding import encode_conversations
from train.post_training.data.row_filter import Chosen, choose_rows, keys_of, seed_keys
from train.post_training.settings.recipe import PostTrainingRecipe


# Part of the fingerprint: raise it when the same rows and settings would give other tokens.
FORMAT_VERSION = 1
SECONDS_BETWEEN_LOOKS = 1.0
STATISTICS_FILE = "statistics.json"
ARTICLES_FILE = "articles.npy"
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


def load_data(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> PostTrainingData:
    """Read the rows that the recipe asks for, and part them into training and held-out ones.

    Raises:
        ValueError, OSError: the source cannot be read.
        RunRefusedError: no row is left of one of the two parts.
    """
    rows = recipe.rows
    source = find_source(rows.dataset, rows.dataset_revision, rows.dataset_split, rows.dataset_config)
    if recipe.method == "sft":
        return _load_tokens(recipe, source, tokenizer)
    return _load_lists(recipe, source)


def _load_tokens(recipe: PostTrainingRecipe, source: Source, tokenizer: PreTrainedTokenizerBase) -> PostTrainingData:
    folder = _cache_folder(recipe, source, tokenizer)
    if recipe.training.local_process_index == 0:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _write_tokens(folder, recipe, source, tokenizer)
    while not folder.exists():  # another process of this machine is writing it
        time.sleep(SECONDS_BETWEEN_LOOKS)
    statistics = RowStatistics.from_dict(json.loads((folder / STATISTICS_FILE).read_text(encoding="utf-8")))
    assert isinstance(statistics, RowStatistics)
    train, validation = (datasets.Dataset.from_file(str(folder / f"{split}.arrow")) for split in SPLITS)
    keys = np.load(folder / ARTICLES_FILE)
    return PostTrainingData(
        train=train,
        validation=validation.select(range(min(recipe.rows.max_eval_samples or len(validation), len(validation)))),
        name=statistics.sha256["train"],
        statistics=statistics,
        source=source,
        is_known=lambda questions: np.isin(seed_keys(questions), keys).tolist() if len(keys) else None,
    )


def _write_tokens(folder: Path, recipe: PostTrainingRecipe, source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a folder whole, or nothing."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    statistics, keys, digest = RowStatistics(), set(), hashlib.sha256()
    writers = {split: pa.ipc.new_stream(unfinished / f"{split}.arrow", SCHEMA) for split in SPLITS}
    for chosen in choose_rows(source, recipe.method, recipe.rows, statistics):
        for split, writer in writers.items():
            mine = [one for one in chosen if one.split == split]
            examples = list(_encode(mine, tokenizer, recipe.sequence_tokens, statistics))
            writer.write_batch(pa.RecordBatch.from_pylist(examples, SCHEMA))
            if split == "train":
                digest.update(json.dumps(examples).encode())
        keys |= keys_of(chosen)
    for writer in writers.values():
        writer.close()
    check_enough(statistics)
    statistics.sha256["train"] = digest.hexdigest()
    np.save(unfinished / ARTICLES_FILE, np.array(sorted(keys), dtype=np.uint64))
    (unfinished / STATISTICS_FILE).write_text(json.dumps(statistics.to_dict(), indent=2), encoding="utf-8")
    os.replace(unfinished, folder)


def _encode(
    chosen: list[Chosen], tokenizer: PreTrainedTokenizerBase, max_tokens: int, statistics: RowStatistics
) -> Iterator[dict[str, list[int]]]:
    """The tokens of rows; those that are too long, in whole or in their later turns, are left out and counted."""
    conversations = encode_conversations([one.messages for one in chosen], tokenizer)
    for one, conversation in zip(chosen, conversations, strict=True):
        fitted = conversation.fitted(max_tokens)
        if fitted is None:
            statistics.drop("longer than --max_length")
            continue
        changes = [*one.changes, "turns beyond --max_length left off"] if fitted != conversation else one.changes
        statistics.repaired_rows.update(changes)
        statistics.keep(one.row, one.split, len(fitted.input_ids))
        statistics.answer_tokens[one.split] += sum(end - begin for begin, end in fitted.turns)
        yield {"input_ids": fitted.input_ids, "labels": fitted.labels}


def _cache_folder(recipe: PostTrainingRecipe, source: Source, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where the tokens lie: named by a hash of everything that decides them."""
    rows = asdict(recipe.rows)
    for name in ("data_cache_dir", "max_eval_samples"):
        del rows[name]
    made_from = {
        **rows,
        "format": FORMAT_VERSION,
        "source": source.fingerprint(),
        "max_length": recipe.sequence_tokens,
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "chat_template": tokenizer.chat_template,
    }
    fingerprint = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    root = recipe.rows.data_cache_dir or Path(datasets.config.HF_DATASETS_CACHE) / "gpt2scratch"
    return Path(root).expanduser() / f"conversations-{fingerprint}"


def _load_lists(recipe: PostTrainingRecipe, source: Source) -> PostTrainingData:
    """The rows themselves, in memory."""
    statistics, keys, digest = RowStatistics(), set(), hashlib.sha256()
    parts: dict[str, list] = {split: [] for split in SPLITS}
    for chosen in choose_rows(source, recipe.method, recipe.rows, statistics):
        for one in chosen:
            parts[one.split].append(one.row)
            statistics.repaired_rows.update(one.changes)
            statistics.keep(one.row, one.split)
            if one.split == "train":
                digest.update(json.dumps(one.row, sort_keys=True).encode())
        keys |= keys_of(chosen)
    check_enough(statistics)
    statistics.sha256["train"] = digest.hexdigest()
    known = np.array(sorted(keys), dtype=np.uint64)
    return PostTrainingData(
        train=parts["train"],
        validation=parts["validation"][: recipe.rows.max_eval_samples],
        name=statistics.sha256["train"],
        statistics=statistics,
        source=source,
        is_known=lambda questions: np.isin(seed_keys(questions), known).tolist() if keys else None,
    )


def check_enough(statistics: RowStatistics) -> None:
    """Refuse a run without rows in one of the two parts.

    Raises:
        RunRefusedError: with what became of the rows.
    """
    for split, remedy in (("train", "give more rows"), ("validation", "raise --validation_fraction")):
        if not statistics.kept_rows[split]:
            raise RunRefusedError(f"No row is left for {split}: {remedy}.\n{statistics.render()}")
