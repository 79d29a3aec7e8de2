import gzip
import hashlib
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.data.files import checksums
from train.data.files.chunk import BadShardError
from train.data.files.sources import SAMPLE_FOLDER, find_source
from train.data.rows.reading import rows_of
from train.data.rows.synth import COLUMNS


def queries(source):
    return [row["query"] for row in rows_of(source)]


def test_the_sample_is_embedded():
    source = find_source("sample")
    assert [shard.name for shard in source.shards] == [str(SAMPLE_FOLDER / "train.parquet")]
    assert source.count_rows() == len(queries(source)) > 1000


def test_parquet_and_json_lines_give_the_same_rows(tmp_path, row):
    rows = [row(number, synthetic_reasoning=None if number % 2 else "So.") for number in range(7)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    parquet, lines = (list(rows_of(find_source(str(tmp_path / f"rows.{kind}")))) for kind in ("parquet", "jsonl"))
    assert parquet == lines == [{column: one[column] for column in COLUMNS} for one in rows]


def test_a_folder_is_read_in_the_order_of_its_file_names(tmp_path, row):
    for number in (2, 0, 1):
        pq.write_table(pa.Table.from_pylist([row(number)]), tmp_path / f"part_{number}.parquet")
    source = find_source(str(tmp_path))
    assert queries(source) == [row(number)["query"] for number in range(3)]
    assert source.count_rows() == 3
    assert source.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def fill(folder, names, row):
    """Files and folders of these names; those of rows hold one row each, which asks for the file's name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row(0, query=name)) + "\n"
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        elif name.lower().endswith("parquet"):
            pq.write_table(pa.Table.from_pylist([json.loads(line)]), path)
        else:
            path.write_bytes(gzip.compress(line.encode()) if name.endswith(".gz") else line.encode())


@pytest.mark.parametrize(
    ("read", "unread"),
    [
        (["data/rows.jsonl", "rows.jsonl"], ["README.md"]),
        (["a.jsonl", "b.jsonl.gz", "c.JSONL", "d.JsonL.gz"], []),
        (["UPPER.PARQUET", "a.parquet", "rows.parquet/part-0.snappy.parquet"], ["empty/"]),
        (["a.jsonl"], ["a.csv", "a.json", "a.jsonl.bz2", "a.parquet.gz", "a.txt"]),
        (["a.jsonl"], [".gitattributes", ".ipynb_checkpoints/a.jsonl", "_SUCCESS"]),
    ],
)
def test_a_folder_gives_all_its_files_of_rows_and_names_the_others(tmp_path, row, caplog, read, unread):
    fill(tmp_path, [*read, *unread], row)
    assert queries(find_source(str(tmp_path))) == read
    said = ", ".join(name for name in unread if not name.endswith("/") and name != ".gitattributes")
    assert [record.getMessage().partition("; ")[0] for record in caplog.records] == (
        [f"{tmp_path}: not read are {said}"] if said else []
    )


def test_a_link_to_a_folder_is_named_and_not_followed(tmp_path, row, caplog):
    fill(tmp_path, ["rows/a.jsonl", "beside/b.jsonl"], row)
    (tmp_path / "rows" / "more").symlink_to(tmp_path / "beside")
    (tmp_path / "rows" / "loop").symlink_to(tmp_path / "rows")
    assert queries(find_source(str(tmp_path / "rows"))) == ["rows/a.jsonl"]
    assert "not read are loop, more; " in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"found no rows; files of rows end in \.parquet, .*can be converted"),
        (["a/b/"], "found no rows"),
        (["a.json", "b.csv"], r"found no rows; not read are a\.json, b\.csv; "),
        ([f"{number}.text" for number in range(99)], r"not read are 0\.text, .*, 28\.text, \[\.\.\.\]; "),
        (["a.jsonl", "b.parquet"], "holds both"),
        (["a.jsonl.gz", "b.PARQUET"], "holds both"),
        (["a.jsonl", "a.jsonl.gz"], r"a\.jsonl\.gz stands beside a\.jsonl: remove one"),
        (["a.jsonl", "b.jsonl ->"], r"b\.jsonl is no file, but a link to nothing"),
        (["a.jsonl", "b.jsonl |"], r"b\.jsonl is no file, but a link to nothing or a device"),
    ],
)
def test_a_folder_that_cannot_be_read_whole_is_refused(tmp_path, row, names, message):
    fill(tmp_path, [name for name in names if " " not in name], row)
    for name in names:
        if name.endswith(" ->"):
            (tmp_path / name.removesuffix(" ->")).symlink_to(tmp_path / "nothing")
        elif name.endswith(" |"):
            os.mkfifo(tmp_path / name.removesuffix(" |"))  # to open it would wait for ever
    with pytest.raises(ValueError, match=message):
        find_source(str(tmp_path))


def test_a_link_is_read_by_its_own_name(tmp_path, row):
    """As in a snapshot of the Hub's cache, whose links lead to files named after their content."""
    blob, snapshot = tmp_path / "blobs" / "0a1b2c", tmp_path / "snapshots"
    blob.parent.mkdir()
    snapshot.mkdir()
    pq.write_table(pa.Table.from_pylist([row(1)]), blob)
    (snapshot / "rows.parquet").symlink_to(blob)
    for source in (find_source(str(snapshot)), find_source(str(snapshot / "rows.parquet"))):
        assert queries(source) == [row(1)["query"]]
        assert source.count_rows() == 1


def test_json_lines_are_not_counted_before_they_are_read(rows_file):
    assert find_source(str(rows_file)).count_rows() is None


def test_counting_the_rows_of_a_damaged_file_names_it(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and no footer")
    with pytest.raises(BadShardError, match=r"rows\.parquet is torn or damaged"):
        find_source(str(tmp_path)).count_rows()


@pytest.mark.parametrize("name", ["nowhere.parquet", "data/typo.JSONL", "data/*.parquet", "~nobody/rows", ""])
def test_what_cannot_be_found_is_refused(name):
    with pytest.raises(ValueError, match="neither a file or folder here, nor a Hub id"):
        find_source(name)


@pytest.mark.parametrize("setting", [{"split": "test"}, {"revision": "v1"}, {"config": "all"}])
def test_what_is_of_the_hub_only_is_said_to_be_unused_for_files(rows_file, setting, caplog):
    assert find_source(str(rows_file), **setting).revision is None
    assert "lies here, so the revision, split or configuration of a Hub dataset is not used" in caplog.text


def test_a_hub_dataset_without_a_hub_says_so():
    with pytest.raises(ConnectionError, match=r"PleIAs/SYNTH.*and there is no such file or folder here"):
        find_source("PleIAs/SYNTH")


@pytest.fixture
def fingerprint(tmp_path, rows_file):
    return lambda file=rows_file: find_source(str(file)).fingerprint(tmp_path / "cache")


def test_the_fingerprint_follows_the_content(fingerprint, rows_file, tmp_path):
    """Not size and time, which a change may leave as they were, nor name and place."""
    before, status = fingerprint(), rows_file.stat()
    rows_file.write_text(rows_file.read_text().replace("What follows 7?", "What follows 8?"))
    os.utime(rows_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (rows_file.stat().st_size, rows_file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    after = fingerprint()
    assert after != before
    rows_file.touch()
    assert fingerprint() == after
    (tmp_path / "moved").mkdir()
    assert fingerprint(shutil.copy(rows_file, tmp_path / "moved" / "other.jsonl")) == after


def test_a_checksum_is_computed_once_for_all_processes(fingerprint, rows_file, monkeypatch):
    before = fingerprint()
    monkeypatch.setattr(checksums, "_sha256", lambda *_: pytest.fail("computed again"))
    assert fingerprint() == before
    os.utime(rows_file)
    with pytest.raises(pytest.fail.Exception):
        fingerprint()


def test_a_folder_that_cannot_be_written_keeps_no_checksum(fingerprint, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize("twice", ["copied", "linked"])
def test_files_of_the_same_content_are_named(tmp_path, row, twice, caplog):
    fill(tmp_path, ["rows/a.jsonl", "rows/b.jsonl", "rows/c.jsonl"], row)
    first, last = tmp_path / "rows" / "a.jsonl", tmp_path / "rows" / "d.jsonl"
    shutil.copy(first, last) if twice == "copied" else last.symlink_to(first)
    find_source(str(tmp_path / "rows")).fingerprint(tmp_path / "cache")
    assert f"{first}, {last}: their rows are read more than once" in caplog.text


def test_a_checksum_follows_its_file(tmp_path, row):
    content = (json.dumps(row(1)) + "\n").encode()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (tmp_path / name).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    # Text and binary mode, a path from the folder, and a file that holds no rows, which need not be here.
    (tmp_path / "SHA256SUMS").write_text(f"{sha256}  a.jsonl\n{sha256} *./b.jsonl\n{sha256}  README.md\n")
    assert [shard.sha256 for shard in find_source(str(tmp_path)).shards] == [sha256, sha256, None]


def test_a_listed_file_that_is_not_there_is_refused(tmp_path, row):
    (tmp_path / "a.jsonl").write_text(json.dumps(row(1)) + "\n")
    (tmp_path / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}.jsonl\n" for name in "ab"))
    with pytest.raises(ValueError, match=r"SHA256SUMS lists b\.jsonl, which is not there"):
        find_source(str(tmp_path))


@pytest.mark.parametrize("line", ["0123  a.jsonl", f"{'0' * 64}", f"SHA256 (a.jsonl) = {'0' * 64}", ""])
def test_a_malformed_checksum_is_refused_with_its_line(tmp_path, row, line):
    (tmp_path / "a.jsonl").write_text(json.dumps(row(1)) + "\n")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  a.jsonl\n{line}\n")
    with pytest.raises(ValueError, match="SHA256SUMS, line 2"):
        find_source(str(tmp_path))
