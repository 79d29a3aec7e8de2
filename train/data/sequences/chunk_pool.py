"""All chunks of a source, prepared by one process or several, with progress."""

import math
import multiprocessing
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tqdm.auto import tqdm

from train.data.cache_folder import writing_into
from train.data.files.chunk import BYTES_PER_CHUNK, Chunk, RowBatch, chunks_of
from train.data.files.shard_access import read_shard
from train.data.files.sources import Source
from train.data.files.text_documents import is_text
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.chunks import FinishedChunk, prepare_chunk
from train.data.sequences.preparation import Limit, Preparation
from train.hardware import available_cores


# Chunks of one file that one process prepares in turn, so that a Hub file is fetched once.
Task = tuple[Chunk, ...]
Result = TypeVar("Result")


def prepare_chunks(preparation: Preparation, processes: int, shards: range | None = None) -> list[FinishedChunk]:
    """Prepare what is not there yet of all files or these, in order up to the limit; returns the chunks in order.

    Raises:
        BadShardError: a file cannot be read.
    """
    source = preparation.source
    shards = range(len(source.shards)) if shards is None else shards
    finished: list[FinishedChunk] = []
    sums = DatasetStatistics()

    def left() -> Limit:
        return preparation.limit.after(sums)

    total = sum(source.shards[number].bytes for number in shards)
    with (
        writing_into(preparation.folder),
        tqdm(total=total, desc=f"Tokenising {source.name}", unit="B", unit_scale=True) as bar,
        closing(run_tasks(preparation, tasks_of(source, shards), processes, prepare_task, left)) as results,
    ):
        for task, chunks in results:
            for chunk, result in zip(task, chunks):  # noqa: B905 (a limit may end them early)
                if left().after(result.statistics).is_reached:
                    # What was prepared ahead was given more room than is now left.
                    (result,) = prepare_task(preparation, (chunk,), left())
                finished.append(result)
                sums.add(result.statistics)
                _show(bar, bytes_of(source, chunk), sums)
                if left().is_reached:
                    return finished
    return finished


def bytes_of(source: Source, chunk: Chunk) -> float:
    return sum(file.bytes for file in source.shards[chunk.shard : chunk.shard + chunk.shards]) / chunk.parts


def tasks_of(source: Source, shards: range) -> Iterator[Task]:
    """Those that begin in these files; the same ones, whatever the other files of the range."""
    for first, count in _neighbours(source):
        if first not in shards:
            continue
        if count > 1:
            yield (Chunk(first, 0, 1, count),)
            continue
        chunks = chunks_of(first, source.shards[first].bytes)
        yield from [chunks] if source.shards[first].repository else [(chunk,) for chunk in chunks]


def _neighbours(source: Source) -> Iterator[tuple[int, int]]:
    """The number of a file, and how many from it on share a chunk: text files on this disk are often many and small."""
    first = number = bytes_before = 0
    for number, shard in enumerate(source.shards):
        shares = is_text(shard.name) and shard.repository is None and bytes_before + shard.bytes <= BYTES_PER_CHUNK
        if number > first and not shares:
            yield first, number - first
            first = number
            bytes_before = 0
        bytes_before += shard.bytes
    yield first, number + 1 - first


def _show(bar: tqdm, read_bytes: float, sums: DatasetStatistics) -> None:
    tokens = sum(sums.tokens.values())
    rate = tokens / max(bar.format_dict["elapsed"], 1e-3)
    bar.set_postfix({"rows": f"{sums.rows_read:,}", "tokens": f"{tokens:,}", "tokens/s": f"{rate:,.0f}"}, refresh=False)
    bar.update(read_bytes)


def prepare_task(preparation: Preparation, task: Task, left: Limit) -> list[FinishedChunk]:
    """The chunks of a task, up to the limit; its file is only fetched where one of them is missing."""
    fetched = preparation.folder / "fetched" / task[0].name
    results = []
    try:
        for chunk in task:
            batches = read_rows(preparation, chunk, fetched, left.rows)
            results.append(prepare_chunk(preparation, chunk, batches, left))
            left = left.after(results[-1].statistics)
            if left.is_reached:
                break
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
    return results


def read_rows(preparation: Preparation, chunk: Chunk, fetched: Path, most_rows: float = math.inf) -> Iterator[RowBatch]:
    """Those of a chunk; a Hub file is fetched into a folder, and stays there."""
    for number in range(chunk.shard, chunk.shard + chunk.shards):
        yield from read_shard(
            preparation.source.shards[number],
            replace(chunk, shard=number),
            preparation.row_filter.schema.columns,
            fetched,
            skip_broken=preparation.settings.skip_broken,
            most_rows=most_rows,
        )


def run_tasks(
    preparation: Preparation,
    tasks: Iterable[Task],
    processes: int,
    work: Callable[[Preparation, Task, Limit], Result],
    left: Callable[[], Limit] = Limit,
) -> Generator[tuple[Task, Result]]:
    """What a function of a module makes of each task, in order; several processes work on the next tasks meanwhile."""
    if processes == 1:
        for task in tasks:
            yield task, work(preparation, task, left())
        return
    context = multiprocessing.get_context("spawn")  # threads of the tokenizer do not survive a fork
    threads = max(1, available_cores() // processes)
    pool = ProcessPoolExecutor(processes, context, _start_worker, (preparation, threads))
    ahead: deque[tuple[Task, Future]] = deque()
    try:
        for task in tasks:
            ahead.append((task, pool.submit(_work, work, task, left())))
            if len(ahead) > 2 * processes:
                first, future = ahead.popleft()
                yield first, future.result()
        for task, future in ahead:
            yield task, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_preparation: Preparation | None = None  # a worker's


def _start_worker(preparation: Preparation, threads: int) -> None:
    global _preparation  # sent once, as tokenizer and evaluation sets are large
    _preparation = preparation
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever; what it was writing is unfinished anyway."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(work: Callable[[Preparation, Task, Limit], Result], task: Task, left: Limit) -> Result:
    assert _preparation is not None
    return work(_preparation, task, left)
