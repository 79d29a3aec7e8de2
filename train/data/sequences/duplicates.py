"""Duplicates among the documents of a source, found by a first pass over its rows that holds few of them in memory.

Each chunk's documents become keys of eight bytes, sorted, on the disk. Then the chunks are compared, one range of keys
after another, which leaves for each the keys that an earlier chunk has. So the first of equal documents stays, whatever
the number of parts and processes; a pass that was killed goes on with the chunks that are missing.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from train.data.cache_folder import writing_into
from train.data.files.chunk import Chunk
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.chunk_pool import Task, bytes_of, read_rows, run_tasks, tasks_of
from train.data.sequences.chunks import UNFINISHED, chunk_lock
from train.data.sequences.documents import used_rows
from train.data.sequences.left_out import DOCUMENT_DTYPE, LeftOut, document_key, duplicates_file
from train.data.sequences.preparation import Limit, Preparation


KEYS_AT_ONCE = 2_000_000  # that are compared in memory, which takes about 100 MB


def find_duplicates(preparation: Preparation, processes: int, first: range | None = None) -> None:
    """Note the duplicates of all files, unless that is done. Parts that are prepared apart share the work, as each
    begins with its own files.

    Raises:
        BadShardError: a file cannot be read.
    """
    source, folder = preparation.source, preparation.duplicates_folder
    found = duplicates_file(preparation, Chunk(0, 0, 1)).parent
    if found.exists():
        return
    everything = range(len(source.shards))
    tasks = list(tasks_of(source, everything))
    own = set(tasks_of(source, first)) if first is not None else set()
    with (
        writing_into(folder),
        tqdm(total=source.bytes, desc=f"Looking for duplicates in {source.name}", unit="B", unit_scale=True) as bar,
    ):
        in_order = sorted(tasks, key=lambda task: task not in own)
        with closing(run_tasks(preparation, in_order, processes, write_keys)) as results:
            for task, _ in results:
                bar.update(sum(bytes_of(source, chunk) for chunk in task))
        with chunk_lock(folder, "found"):
            if not found.exists():
                _compare([chunk for task in tasks for chunk in task], preparation)
                shutil.rmtree(folder / "keys", ignore_errors=True)


def write_keys(preparation: Preparation, task: Task, _: Limit) -> None:
    """The keys of the documents in each chunk of a task, sorted, each once."""
    folder = preparation.duplicates_folder
    fetched = folder / "fetched" / task[0].name
    left_out = LeftOut(preparation)
    with chunk_lock(folder, task[0].name):
        for chunk in task:
            file = _keys_file(preparation, chunk)
            if file.exists() or duplicates_file(preparation, chunk).parent.exists():
                continue
            keys = np.fromiter(
                (
                    document_key(one.texts)
                    for batch in read_rows(preparation, chunk, fetched)
                    for one in used_rows(
                        batch, preparation.row_filter, DatasetStatistics(), preparation.splits, left_out
                    )
                ),
                DOCUMENT_DTYPE,
            )
            file.parent.mkdir(exist_ok=True)
            unfinished = file.with_suffix(UNFINISHED)
            np.unique(keys).tofile(unfinished)
            os.replace(unfinished, file)
        shutil.rmtree(fetched, ignore_errors=True)


def _keys_file(preparation: Preparation, chunk: Chunk) -> Path:
    return preparation.duplicates_folder / "keys" / f"{chunk.name}.u64"


def _compare(chunks: list[Chunk], preparation: Preparation) -> None:
    """Write for each chunk the keys that an earlier one has; they appear together, by a rename."""
    found = duplicates_file(preparation, chunks[0]).parent
    unfinished = found.with_suffix(UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for keys, numbers in _ranges([_keys_file(preparation, chunk) for chunk in chunks]):
        order = np.argsort(keys, kind="stable")  # so that the earliest chunk of a key comes first
        again = order[1:][keys[order][1:] == keys[order][:-1]]
        for number in np.unique(numbers[again]):
            with open(unfinished / f"{chunks[number].name}.u64", "ab") as file:
                file.write(keys[again[numbers[again] == number]].tobytes())
    os.replace(unfinished, found)


def _ranges(files: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The keys of files, and for each the number of its file: a range of keys after another, from all files."""
    total = sum(file.stat().st_size for file in files) // DOCUMENT_DTYPE.itemsize
    ranges = max(-(-total // KEYS_AT_ONCE), 1)
    bounds = [2**64 * number // ranges for number in range(ranges)]
    for low, high in pairwise([*bounds, 2**64]):
        parts = []
        for file in files:
            keys = np.memmap(file, DOCUMENT_DTYPE, mode="r") if file.stat().st_size else np.empty(0, DOCUMENT_DTYPE)
            begin, end = (
                np.searchsorted(keys, np.uint64(bound)) if bound < 2**64 else len(keys) for bound in (low, high)
            )
            parts.append(np.array(keys[begin:end]))  # a map left open would keep its file open
        yield np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
