import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.data.sources import SAMPLE_FOLDER, find_source
from train.data.synth import COLUMNS


def test_the_sample_is_embedded():
    source = find_source("sample")
    assert source.files == (SAMPLE_FOLDER / "train.parquet",)
    assert source.count_rows() == sum(1 for _ in source.open())


def test_parquet_and_json_lines_give_the_same_rows(tmp_path, row):
    rows = [row(number, synthetic_reasoning=None if number % 2 else "So.") for number in range(7)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    parquet, lines = (list(find_source(str(tmp_path / f"rows.{kind}")).open()) for kind in ("parquet", "jsonl"))
    assert parquet == lines == [{column: one[column] for column in COLUMNS} for one in rows]


def test_a_folder_is_read_in_the_order_of_its_file_names(tmp_path, row):
    for number in (2, 0, 1):
        pq.write_table(pa.Table.from_pylist([row(number)]), tmp_path / f"part_{number}.parquet")
    source = find_source(str(tmp_path))
    assert [one["query"] for one in source.open()] == [row(number)["query"] for number in range(3)]
    assert source.count_rows() == 3


def test_a_missing_column_is_named(tmp_path):
    pq.write_table(pa.table({"query": ["Why?"], "answer": ["So."]}), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"no column .*synthetic_answer.*it has query, answer"):
        find_source(str(tmp_path / "rows.parquet")).open()


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
