"""Preparation in parts, by several processes, interrupted and gone on with: always what one undisturbed run makes."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.train.forked_run import ForkedRun
from train.callbacks.peak_memory import peak_memory_bytes
from train.data.__main__ import main, shards_of_part
from train.data.files import chunk
from train.data.rows.statistics import DatasetStatistics
from train.data.sequences import chunks


@pytest.fixture
def dataset(tmp_path, row):
    """Writes a folder of files with so many rows each; returns its path."""

    def write(*sizes, name="files", **changes):
        folder = tmp_path / name
        folder.mkdir()
        number = 0
        for file, size in enumerate(sizes):
            with open(folder / f"{file}.jsonl", "w", encoding="utf-8") as lines:
                for one in range(number, number + size):
                    lines.write(json.dumps(row(one, **changes), ensure_ascii=False) + "\n")
            number += size
        return str(folder)

    return write


@pytest.fixture
def command(tiny_recipe, tmp_path):
    """The words of a command for a dataset, which prepares into `tmp_path / cache`."""

    def words(dataset, *more, cache="cache"):
        return ["--config", str(tiny_recipe), "--dataset", dataset, "--data_cache_dir", str(tmp_path / cache), *more]

    return words


@pytest.fixture
def small_chunks(monkeypatch):
    """For preparing in this process only."""
    monkeypatch.setattr(chunk, "BYTES_PER_CHUNK", 8_000)


def the_folder(cache: Path) -> Path:
    (folder,) = set(cache.iterdir()) - {cache / "checksums"}
    return folder


def content(cache: Path) -> tuple:
    """The result of a preparation: its tokens, in order, and its statistics with the hashes."""
    folder = the_folder(cache)
    chunks = [folder / "chunks" / name for name in json.loads((folder / "chunks.json").read_text())]
    tokens = [
        np.concatenate([np.fromfile(chunk / f"{split}.tokens.u16", "<u2") for chunk in chunks]).tolist()
        for split in ("train", "validation")
    ]
    return tokens, DatasetStatistics.from_dict(json.loads((folder / "statistics.json").read_text()))


def is_whole(folder: Path) -> bool:
    return (folder / "statistics.json").exists()


def chunk_times(folder: Path) -> dict[str, int]:
    """The time of change of each finished chunk's tokens."""
    return {
        chunk.name: (chunk / "train.tokens.u16").stat().st_mtime_ns
        for chunk in (folder / "chunks").glob("*")
        if not chunk.name.endswith(chunks.UNFINISHED)
    }


def refuse_to_write(*_):
    pytest.fail("a chunk was made again")


# Five files of several chunks each; seven parts are more than there are files.
@pytest.mark.parametrize("order", [[2, 0, 1], [6, 5, 4, 3, 2, 1, 0]])
@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_parts_in_any_order_equal_one_preparation(
    dataset, command, tmp_path, monkeypatch, small_chunks, order, packing
):
    files = dataset(40, 1, 90, 25, 60)
    settings = ["--packing", packing, "--exercise_weights", "memorization=1.5"]
    assert main(command(files, *settings)) == 0
    for part in order:
        assert main(command(files, *settings, "--shards", f"{part}/{len(order)}", cache="apart")) == 0
        assert not is_whole(the_folder(tmp_path / "apart"))
    assert len(chunk_times(the_folder(tmp_path / "apart"))) > 5
    monkeypatch.setattr(chunks, "_write", refuse_to_write)
    assert main(command(files, *settings, cache="apart")) == 0
    assert content(tmp_path / "apart") == content(tmp_path / "cache")
    assert content(tmp_path / "apart")[1].rows_read == 216


def test_parts_may_be_prepared_at_the_same_time_and_more_than_once(dataset, command, tmp_path, small_chunks):
    files = dataset(40, 1, 90, 25, 60)
    assert main(command(files)) == 0
    words = [command(files, "--shards", part, cache="apart") for part in ("0/2", "1/2", "1/3", "0/2")]
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(main, words)) == [0, 0, 0, 0]
    assert main(command(files, cache="apart")) == 0
    assert content(tmp_path / "apart") == content(tmp_path / "cache")


def test_parts_that_are_missing_are_prepared_by_the_command_for_all(
    dataset, command, tmp_path, monkeypatch, small_chunks
):
    files = dataset(40, 40, 40, 40)
    assert main(command(files)) == 0
    assert main(command(files, "--shards", "1/2", cache="apart")) == 0
    before = chunk_times(the_folder(tmp_path / "apart"))
    assert {name[:5] for name in before} == {"00002", "00003"}
    assert main(command(files, cache="apart")) == 0
    assert before.items() < chunk_times(the_folder(tmp_path / "apart")).items()
    assert content(tmp_path / "apart") == content(tmp_path / "cache")


def test_a_part_of_what_is_prepared_is_left_alone(dataset, command, tmp_path, monkeypatch, caplog):
    files = dataset(100, 100)
    assert main(command(files)) == 0
    before = content(tmp_path / "cache")
    monkeypatch.setattr(chunks, "_write", refuse_to_write)
    with caplog.at_level(logging.INFO, "train.data"):
        assert main(command(files, "--shards", "1/2")) == 0
    assert "files 1 to 1 of 2 are prepared" in caplog.text
    assert content(tmp_path / "cache") == before


@pytest.mark.parametrize("files", [1, 2, 9, 10, 37])
@pytest.mark.parametrize("parts", [1, 3, 10])
def test_parts_have_neither_gap_nor_overlap(files, parts):
    ranges = [shards_of_part(f"{part}/{parts}", files) for part in range(parts)]
    assert [number for one in ranges for number in one] == list(range(files))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shards", "3/3"], "--shards 3/3: PART/PARTS is wanted, with PART from 0 to PARTS - 1"),
        (["--shards", "0/0"], "--shards 0/0: PART/PARTS is wanted"),
        (["--shards", "a"], "--shards a: PART/PARTS is wanted"),
        (["--shards=-1/2"], "--shards -1/2: PART/PARTS is wanted"),
        (["--shards", "1/2/3"], "--shards 1/2/3: PART/PARTS is wanted"),
        (["--shards", "0/2", "--max_samples", "9"], "--shards 0/2 with --max_samples or --max_tokens"),
        (["--shards", "0/2", "--max_tokens", "9"], "where they end depends on the files before"),
        (["--shard", "0/2"], "There is no setting 'shard'"),
        (["--dataset", "nowhere.parquet"], "nowhere.parquet"),
        (["--exercise_weights", "rag"], "--exercise_weights rag: NAME=WEIGHT is wanted"),
    ],
)
def test_mistakes_end_the_command_with_status_2_and_a_message(dataset, command, tmp_path, caplog, words, message):
    assert main(command(dataset(10, 10), *words)) == 2
    assert message in caplog.text
    assert not (tmp_path / "cache").exists()


def test_an_error_in_the_middle_leaves_nothing_that_is_taken_for_whole(
    dataset, command, tmp_path, monkeypatch, small_chunks, caplog
):
    files = dataset(60, 60, 60)
    assert main(command(files)) == 0
    prepared = content(tmp_path / "cache")
    write, calls = chunks._write, []

    def fail_at_the_fourth_chunk(folder, *args):
        calls.append(folder)
        if len(calls) == 4:
            (folder / "train.tokens.u16").write_bytes(b"half of it")
            raise OSError("disk full")
        return write(folder, *args)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "_write", fail_at_the_fourth_chunk)
        assert main(command(files, cache="failed")) == 2
    assert "disk full" in caplog.text
    folder = the_folder(tmp_path / "failed")
    assert not is_whole(folder)
    before = chunk_times(folder)
    assert len(before) == 3
    assert main(command(files, cache="failed")) == 0
    assert content(tmp_path / "failed") == prepared
    assert before.items() < chunk_times(folder).items()
    assert {path.name for path in (folder / "chunks").iterdir()} == set(chunk_times(folder))


def last_of_bar(output: str) -> dict[str, int]:
    """The numbers that a progress bar showed at its end."""
    found = re.findall(r"rows=([\d,]+), tokens=([\d,]+), tokens/s=([\d,]+)\]", output)
    names = ("rows", "tokens", "tokens/s")
    return {name: int(number.replace(",", "")) for name, number in zip(names, found[-1], strict=True)}


def test_a_bar_shows_rows_tokens_and_tokens_a_second(dataset, command, tmp_path, capsys, small_chunks):
    files = dataset(60, 60)
    assert main(command(files)) == 0
    _, statistics = content(tmp_path / "cache")
    output = capsys.readouterr().err
    assert f"Tokenising {files}: 100%" in output
    bar = last_of_bar(output)
    assert (bar["rows"], bar["tokens"]) == (statistics.rows_read, sum(statistics.tokens.values()))
    assert bar["tokens/s"] > 0


def test_the_bar_counts_what_is_found(dataset, command, tmp_path, capsys):
    files = dataset(60, 60)
    assert main(command(files, "--shards", "0/2")) == 0
    capsys.readouterr()
    assert main(command(files)) == 0
    _, statistics = content(tmp_path / "cache")
    output = capsys.readouterr().err
    assert f"Tokenising {files}: 100%" in output
    assert last_of_bar(output)["rows"] == statistics.rows_read
    assert last_of_bar(output)["tokens"] == sum(statistics.tokens.values())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_preparation_that_was_killed_goes_on(
    dataset, command, tmp_path, repository, quick_workers, capsys, processes
):
    """Killed once a chunk is finished; then a part of the rest is prepared, and then all, by so many processes."""
    files = dataset(*[2000] * 6)
    words = command(files, "--dataset_num_proc", str(processes), cache="killed")
    if processes == 1:
        process = ForkedRun(main, words)
    else:  # as a user starts it, with workers as it starts them
        process = subprocess.Popen([sys.executable, "-m", "train.data", *words], cwd=repository)
    deadline = time.monotonic() + 200
    while not any(chunk_times(folder) for folder in (tmp_path / "killed").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    # Those that it started do not stay behind.
    assert len(started) >= (processes if processes > 1 else 0)
    assert psutil.wait_procs(started, timeout=60)[1] == []

    folder = the_folder(tmp_path / "killed")
    before = chunk_times(folder)
    assert 0 < len(before) < 6
    assert not is_whole(folder)
    assert main(command(files, "--shards", "4/5", cache="killed")) == 0
    assert not is_whole(folder)
    capsys.readouterr()
    assert main(words) == 0
    bar = last_of_bar(capsys.readouterr().err)
    after = chunk_times(folder)
    assert before.items() < after.items()
    assert {path.name for path in (folder / "chunks").iterdir()} == set(after)
    assert len(after) == 6

    assert main(command(files, cache="undisturbed")) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    _, statistics = content(tmp_path / "killed")
    assert (bar["rows"], bar["tokens"]) == (12_000, sum(statistics.tokens.values()))


def prepare_and_measure(words):
    status = main(words)
    print(peak_memory_bytes(torch.device("cpu")))  # noqa: T201
    return status


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(dataset, command, tmp_path, run_to_end):
    """Five files of 1.1 million tokens take no more memory than one; the tokens of four would take 9 MB."""
    peaks, tokens = [], []
    for files in (1, 5):
        # Characters that are many tokens in few bytes of text, in rows that are short: a batch of them is small.
        rows = dataset(*[5000] * files, name=f"{files}-files", synthetic_answer="龘ß " * 50)
        words = command(rows, cache=f"cache-{files}")
        peaks.append(int(run_to_end(ForkedRun(prepare_and_measure, words)).splitlines()[-1]))
        _, statistics = content(tmp_path / f"cache-{files}")
        tokens.append(sum(statistics.tokens.values()))
    held = 2 * (tokens[1] - tokens[0])  # bytes, if all tokens were kept in the smallest form
    assert held > 8e6
    assert peaks[1] - peaks[0] < held / 2  # the one is 1 MB above the other
