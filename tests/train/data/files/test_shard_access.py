import json
import subprocess
import sys
from itertools import repeat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.train.data.hub_server import COMMIT, serve, sha256_of
from train.data.files import shard_reading
from train.data.files.chunk import BadShardError
from train.data.files.shard_access import fetch
from train.data.files.sources import find_source
from train.data.rows.reading import first_rows, rows_of
from train.data.rows.synth import COLUMNS


@pytest.fixture(params=["parquet", "jsonl"])
def checked_folder(request, tmp_path, row):
    """Two files of five rows, and their checksums."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, first in (("a", 0), ("b", 5)):
        rows, file = [row(number) for number in range(first, first + 5)], folder / f"{name}.{request.param}"
        if request.param == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
        else:
            file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    sums = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def flip_a_bit(file, at):
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_files_that_are_what_their_checksums_state_are_read_where_they_lie(checked_folder, tmp_path, row):
    source = find_source(str(checked_folder))
    assert all(shard.sha256 for shard in source.shards)
    for shard in source.shards:
        assert str(fetch(shard, tmp_path / "fetched")) == shard.name
    assert [one["query"] for one in rows_of(source)] == [row(number)["query"] for number in range(10)]
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("at", [0, 700, -1])
def test_a_flipped_bit_is_refused(checked_folder, tmp_path, at):
    good, bad = sorted(file for file in checked_folder.iterdir() if file.suffix)
    flip_a_bit(bad, at)
    source = find_source(str(checked_folder))
    assert fetch(source.shards[0], tmp_path) == good
    with pytest.raises(BadShardError, match=rf"/{bad.name} is not what its source states, its SHA-256 differs"):
        fetch(source.shards[1], tmp_path)


def test_a_bit_that_flips_between_two_uses_is_noticed(checked_folder, tmp_path):
    shard = find_source(str(checked_folder)).shards[0]
    path = fetch(shard, tmp_path)
    flip_a_bit(path, 700)
    with pytest.raises(BadShardError, match="SHA-256 differs"):
        fetch(shard, tmp_path)


def test_a_size_that_changed_is_refused(checked_folder, tmp_path):
    shard = find_source(str(checked_folder)).shards[0]
    with open(shard.name, "ab") as file:
        file.write(b"\n")
    with pytest.raises(BadShardError, match=rf"{shard.name} has {shard.bytes + 1:,} bytes, {shard.bytes:,} are stated"):
        fetch(shard, tmp_path)


def test_a_file_that_is_gone_is_refused(rows_file, tmp_path):
    shard = find_source(str(rows_file)).shards[0]
    rows_file.unlink()
    with pytest.raises(BadShardError, match=rf"{rows_file} is gone"):
        fetch(shard, tmp_path)


@pytest.mark.parametrize("change", ["rewritten", "cut", "grown", "replaced"])
def test_a_file_that_changes_under_its_reader_is_refused(rows_file, change, monkeypatch):
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 50)
    content = rows_file.read_bytes()
    rows = rows_of(find_source(str(rows_file)))
    next(rows)
    if change == "replaced":
        rows_file.rename(rows_file.with_suffix(".old"))
    changed = {"cut": content[: content.index(b"\n", 9000) + 1], "grown": content + b"{}\n"}
    rows_file.write_bytes(changed.get(change, content))
    with pytest.raises(BadShardError, match=r"rows\.jsonl has (changed since this run found it|.* bytes, .* stated)"):
        list(rows)


def test_the_first_rows_are_read_and_no_more(tmp_path, row):
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps(row(number, query=f"{number}\r")) + "\n" for number in range(3))
    )
    (tmp_path / "b.jsonl").write_text("broken")
    source = find_source(str(tmp_path))
    assert [one["query"] for one in first_rows(source, 2)] == ["0\n", "1\n"]
    with pytest.raises(BadShardError, match=r"b\.jsonl, line 1 is no JSON"):
        list(rows_of(source))


# Of the Hub: one process reads each file of a dataset, and the tests look at what came of it.

DATASET = "someone/synth"
READ_EACH = """
import json, sys, time
from dataclasses import replace
from pathlib import Path

from huggingface_hub import hf_hub_download
from train.data.files import shard_access
from train.data.files.sources import find_source
from train.data.rows.reading import rows_of

slept = []
time.sleep = slept.append  # the Hub's client waits, too, for less than a minute
shard_access.WAITS = (101, 102, 103)
source = find_source("someone/synth")
hf_hub_download("someone/synth", "cached.parquet", revision=source.revision, repo_type="dataset")
outcomes = {}
for shard in source.shards:
    slept.clear()
    folder = Path(sys.argv[1], shard.name)
    outcome = outcomes[shard.name] = {"sha256": shard.sha256}
    try:
        outcome["queries"] = [row["query"] for row in rows_of(replace(source, shards=(shard,)))]
        outcome["waits"] = [seconds for seconds in slept if seconds > 100]
        outcome["is_in_folder"] = shard_access.fetch(shard, folder).is_relative_to(folder)
        shard_access.fetch(shard, folder)
    except shard_access.BadShardError as error:
        outcome["error"] = str(error)
        outcome["waits"] = [seconds for seconds in slept if seconds > 100]
print(json.dumps(outcomes))
"""
FIRST_ROWS = """
import json
from train.data.rows.reading import first_rows
from train.data.files.sources import find_source

print(json.dumps(first_rows(find_source("someone/synth"), 3)))
"""


def run(script, server, home, *words):
    """The last line that a script prints, as JSON, where the server is the Hub."""
    command, environment = [sys.executable, "-c", script, *map(str, words)], server.environment(home)
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def expected_queries(name):
    return [f"{name} {number}?" for number in range(20)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with a file for each way that a download can go, and what came of reading each."""
    faults = {
        "cached.parquet": [],
        "down.parquet": repeat("503"),
        "dropped.parquet": repeat("dropped", 9),  # more often than the Hub's client tries by itself
        "flipped.parquet": repeat("flipped"),
        "flipped_once.parquet": ["flipped"],
        "short.parquet": ["short"],
        "unwell.parquet": ["503", "503", "503"],
        "well.parquet": [],
    }
    folder, home = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("home")
    for name in faults:
        rows = [{**dict.fromkeys(COLUMNS), "query": query} for query in expected_queries(name)]
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    with serve(DATASET, folder) as server:
        server.faults = {name: iter(wrong) for name, wrong in faults.items()}
        server.outcomes = run(READ_EACH, server, home, tmp_path_factory.mktemp("fetched"))
        yield server


def test_rows_come_from_the_hub_and_what_was_fetched_for_them_is_removed(hub):
    outcome = hub.outcomes["well.parquet"]
    assert outcome == {
        "sha256": sha256_of(hub.folder / "well.parquet"),
        "queries": expected_queries("well.parquet"),
        "waits": [],
        "is_in_folder": True,
    }
    assert hub.downloads("well.parquet") == 2  # by rows_of, and by the first fetch


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("unwell.parquet", [101, 102, 103]),
        ("dropped.parquet", [101]),
        ("short.parquet", [101]),
        ("flipped_once.parquet", [101]),
    ],
)
def test_a_download_that_failed_is_tried_again_after_a_while(hub, name, waits):
    outcome = hub.outcomes[name]
    assert outcome["queries"] == expected_queries(name)
    assert outcome["waits"] == waits


@pytest.mark.parametrize(
    ("name", "cause"), [("down.parquet", "503"), ("flipped.parquet", "is not what its source states, its SHA-256")]
)
def test_a_file_that_stays_broken_is_named_and_nothing_is_read_of_it(hub, name, cause):
    outcome = hub.outcomes[name]
    assert "queries" not in outcome
    assert outcome["error"].startswith(f"{DATASET}@{COMMIT[:7]}/{name} could not be fetched in 4 tries: ")
    assert cause in outcome["error"]
    assert outcome["waits"] == [101, 102, 103]
    assert hub.downloads(name) == 4  # each time anew


def test_a_file_in_the_hubs_cache_is_used_and_stays(hub):
    outcome = hub.outcomes["cached.parquet"]
    assert outcome["queries"] == expected_queries("cached.parquet")
    assert not outcome["is_in_folder"]
    assert hub.downloads("cached.parquet") == 1  # before, into the cache


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_only_the_first_rows_of_a_hub_dataset_are_fetched(tmp_path, row, kind):
    folder = tmp_path / "dataset"
    folder.mkdir()
    for part in "ab":
        rows = [row(number, query=f"{part}{number}\r\n") for number in range(5)]
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), folder / f"{part}.parquet", row_group_size=2)
        else:
            (folder / f"{part}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with serve(DATASET, folder) as server:
        rows = run(FIRST_ROWS, server, tmp_path / "home")
        assert server.downloads(f"a.{kind}") > 0
        assert server.downloads(f"b.{kind}") == 0
    assert rows == [{column: row(n, query=f"a{n}\n")[column] for column in COLUMNS} for n in range(3)]
