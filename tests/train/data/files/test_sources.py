import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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


def test_files_in_inner_folders_are_read_too_and_others_are_passed_over(tmp_path, row):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").write_text(json.dumps(row(1)) + "\n")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(2)) + "\n")
    (tmp_path / "README.md").write_text("Rows.")
    assert queries(find_source(str(tmp_path))) == [row(1)["query"], row(2)["query"]]


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


def test_what_cannot_be_found_is_refused(tmp_path, row):
    with pytest.raises(ValueError, match="neither a file or folder here, nor a Hub id"):
        find_source("nowhere.parquet")
    with pytest.raises(ValueError, match="found no rows"):
        find_source(str(tmp_path))
    pq.write_table(pa.Table.from_pylist([row(0)]), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(0)))
    with pytest.raises(ValueError, match="holds both"):
        find_source(str(tmp_path))


def test_a_hub_dataset_without_a_hub_says_so():
    with pytest.raises(ConnectionError, match="PleIAs/SYNTH"):
        find_source("PleIAs/SYNTH")


def test_the_fingerprint_follows_the_file(tmp_path, row):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([row(0)]), file)
    before = find_source(str(file)).fingerprint()
    assert find_source(str(file)).fingerprint() == before
    pq.write_table(pa.Table.from_pylist([row(0), row(1)]), file)
    assert find_source(str(file)).fingerprint() != before


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
