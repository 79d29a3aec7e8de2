"""All pieces of a source, prepared by one process or several, with progress."""

import itertools
import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from train.data.files.shard_access import at_hand
from train.data.files.shard_reading import BadShardError, Piece, pieces_of
from train.data.files.sources import Shard, Source
from train.data.rows.row_filter import RowFilter
from train.data.rows.row_limit import Limit
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences.chunks import (
    NotPreparedError,
    PieceSettings,
    Report,
    load_statistics,
    piece_folder,
    prepare_piece,
    skip_piece,
)
from train.hardware import available_cores


logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class FinishedPiece:
    folder: Path
    statistics: DatasetStatistics


@dataclass(frozen=True)
class Task:
    """Pieces of one file that one process prepares in turn, so that a Hub file is fetched once."""

    shard: Shard
    pieces: tuple[Piece, ...]


def prepare_pieces(
    settings: PieceSettings,
    source: Source,
    choice: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    processes: int,
    limit: Limit,
    is_enough: Callable[[DatasetStatistics], bool] = lambda statistics: False,
    shards: range | None = None,
) -> list[FinishedPiece]:
    """Prepare what is not there yet, in order up to the limit; returns the pieces in order.

    Args:
        is_enough: ends the preparation after a piece, given the sums so far.
        shards: only these files, of all; no limit can then be kept.

    Raises:
        BadShardError: a file cannot be read.
    """
    assert shards is None or not limit
    shards = range(len(source.shards)) if shards is None else shards
    tasks = _tasks(source, shards)
    total_bytes = sum(source.shards[number].bytes for number in shards)
    finished: list[FinishedPiece] = []
    sums = DatasetStatistics()
    with (
        tqdm(total=total_bytes, desc=f"Tokenising {source.name}", unit="B", unit_scale=True) as bar,
        _Workers(settings, choice, tokenizer, processes, bar) as workers,
    ):
        for task, results in workers.run(tasks, lambda: limit.less(sums)):
            for piece, result in zip(task.pieces, results):  # noqa: B905 (a limit may end them early)
                left = limit.less(sums)
                if left and left.reached_by(result.statistics):
                    # Exact at the last row: what was prepared ahead was given more room than is now left.
                    result = workers.prepare(Task(task.shard, (piece,)), left)[0]
                finished.append(result)
                sums.add(result.statistics)
                if limit.reached_by(sums) or is_enough(sums):
                    return finished
    return finished


def _tasks(source: Source, shards: range) -> Iterator[Task]:
    for number in shards:
        shard = source.shards[number]
        pieces = pieces_of(number, shard.bytes)
        if shard.repository is not None:
            yield Task(shard, tuple(pieces))
        else:
            yield from (Task(shard, (piece,)) for piece in pieces)


class _Workers:
    """Runs tasks in this process, or ahead of time in several others."""

    def __init__(
        self, settings: PieceSettings, choice: RowFilter, tokenizer: PreTrainedTokenizerBase, processes: int, bar: tqdm
    ):
        self.settings, self.choice, self.tokenizer = settings, choice, tokenizer
        self.processes = processes
        self.bar = bar
        self.rows = self.tokens = 0
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Workers":
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")  # threads of the tokenizer do not survive a fork
            self.counters = [context.Value("q", 0) for _ in range(3)]
            threads = max(1, available_cores() // self.processes)
            arguments = (self.settings, self.choice, self.tokenizer, self.counters, threads)
            self.pool = ProcessPoolExecutor(self.processes, context, _start_worker, arguments)
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
            self._look()

    def run(self, tasks: Iterator[Task], limit: Callable[[], Limit]) -> Iterator[tuple[Task, list[FinishedPiece]]]:
        """The results in order; with several processes as many tasks as these are worked on ahead."""
        if self.pool is None:
            for task in tasks:
                yield task, self.prepare(task, limit())
            return
        ahead: deque[tuple[Task, Future]] = deque()
        for coming in itertools.chain(tasks, itertools.repeat(None)):
            if coming is not None:
                ahead.append((coming, self.pool.submit(_work, coming, limit())))
            if not ahead:
                return
            if coming is None or len(ahead) > 2 * self.processes:
                first, future = ahead.popleft()
                while not wait([future], SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done:
                    self._look()
                yield first, future.result()

    def prepare(self, task: Task, limit: Limit) -> list[FinishedPiece]:
        return prepare_task(task, self.settings, self.choice, self.tokenizer, limit, self._report)

    def _report(self, read: int, rows: int, tokens: int) -> None:
        self.rows, self.tokens = self.rows + rows, self.tokens + tokens
        self.bar.update(read)
        seconds = self.bar.format_dict["elapsed"]
        rate = f"{self.tokens / max(seconds, 1e-3):,.0f}"
        self.bar.set_postfix({"rows": f"{self.rows:,}", "tokens": f"{self.tokens:,}", "tokens/s": rate}, refresh=False)

    def _look(self) -> None:
        """Show what the other processes have done."""
        read, rows, tokens = (counter.value for counter in self.counters)
        self._report(max(read - self.bar.n, 0), rows - self.rows, tokens - self.tokens)


def prepare_task(
    task: Task,
    settings: PieceSettings,
    choice: RowFilter,
    tokenizer: PreTrainedTokenizerBase,
    limit: Limit,
    report: Report,
) -> list[FinishedPiece]:
    """The pieces of a task; its file is only fetched where one of them is missing."""
    if not limit:
        try:
            folders = [piece_folder(settings, piece) for piece in task.pieces]
            results = [FinishedPiece(folder, load_statistics(folder)) for folder in folders]
        except NotPreparedError:
            pass
        else:
            for result in results:
                report(0, result.statistics.rows_read, sum(result.statistics.tokens.values()))
            report(round(task.shard.bytes * len(results) / task.pieces[0].parts), 0, 0)
            return results
    results = []
    try:
        with at_hand(task.shard, settings.folder / "fetched" / task.pieces[0].name) as path:
            for piece in task.pieces:
                try:
                    found = prepare_piece(settings, piece, path, str(task.shard), choice, tokenizer, limit, report)
                except BadShardError as error:
                    found = _skip(settings, piece, error)
                results.append(FinishedPiece(*found))
                if limit.reached_by(results[-1].statistics):
                    break
                limit = limit.less(results[-1].statistics)
    except BadShardError as error:
        return [FinishedPiece(*_skip(settings, piece, error)) for piece in task.pieces]
    return results


def _skip(settings: PieceSettings, piece: Piece, error: BadShardError) -> tuple[Path, DatasetStatistics]:
    if not settings.skip_broken:
        raise error
    logger.warning("Skipped: %s", error)
    return skip_piece(settings, piece, str(error))


_worker: dict[str, Any] = {}


def _start_worker(settings, choice, tokenizer, counters, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizer's
    _worker.update(settings=settings, choice=choice, tokenizer=tokenizer, counters=counters)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever; what it was writing is unfinished anyway."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(task: Task, limit: Limit) -> list[FinishedPiece]:
    def report(*amounts: int) -> None:
        for counter, amount in zip(_worker["counters"], amounts, strict=True):
            with counter.get_lock():
                counter.value += amount

    return prepare_task(task, _worker["settings"], _worker["choice"], _worker["tokenizer"], limit, report)
