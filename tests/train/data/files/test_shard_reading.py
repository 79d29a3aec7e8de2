import gzip
import json
import re
from contextlib import nullcontext
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.files import chunk as chunk_module
from train.data.files import shard_reading
from train.data.files.chunk import INVALID_UTF8, PAST_THE_END, BadShardError, Chunk, chunks_of
from train.data.rows.row_filter import RowFilter
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import COLUMNS, SYNTH_COLUMNS, repair
from train.data.sequences.documents import documents_of


WHOLE = Chunk(0, 0, 1)
SCHEMA = pa.schema([(column, pa.string()) for column in COLUMNS])
KINDS = ("parquet", "jsonl")
ALL_KINDS = (*KINDS, "jsonl.gz")


def only_columns(rows):
    return [{column: row[column] for column in COLUMNS} for row in rows]


def write(file, rows, rows_per_group=1000, **options):
    """Rows in the format that the file's name says."""
    if file.suffix == ".parquet":
        table = pa.Table.from_pylist(only_columns(rows), SCHEMA)
        pq.write_table(table, file, row_group_size=rows_per_group, **options)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        file.write_bytes(gzip.compress(lines) if file.suffix == ".gz" else lines)
    return file


def write_lines(file, *lines):
    """Each line a row, or bytes that are none."""
    file.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return file


def read_chunk(path, chunk=WHOLE, place=None):
    with open(path, "rb") as file:
        yield from shard_reading.read_chunk(file, path.name, chunk, SYNTH_COLUMNS, place)


def read(file, chunk=WHOLE, place=None):
    return [row for batch in read_chunk(file, chunk, place) for row in batch.rows]


def read_all(file):
    """Rows, and counts of those that cannot be read."""
    rows, unreadable = [], {}
    for batch in read_chunk(file, WHOLE):
        rows += batch.rows
        for reason, count in batch.unreadable.items():
            unreadable[reason] = unreadable.get(reason, 0) + count
    return rows, unreadable


def queries(file):
    return [row["query"] for row in read(file)]


def in_chunks(parts):
    return [Chunk(0, part, parts) for part in range(parts)]


# Rows of any length, in files cut into more or fewer chunks and groups than there are rows.
numbers_of_characters = st.lists(st.integers(0, 200), max_size=25)
kinds, up_to_seven, up_to_nine = st.sampled_from(ALL_KINDS), st.integers(1, 7), st.integers(1, 9)


def rows_of_lengths(lengths):
    return [{**dict.fromkeys(COLUMNS), "query": f"{number}é" + "x" * n} for number, n in enumerate(lengths)]


@settings(deadline=None)
@given(kinds, numbers_of_characters, up_to_seven, up_to_nine, up_to_nine)
def test_chunks_hold_each_row_once_and_in_order(tmp_path_factory, kind, lengths, parts, rows_per_group, rows_per_batch):
    rows = rows_of_lengths(lengths)
    file = write(tmp_path_factory.mktemp("chunks") / f"rows.{kind}", rows, rows_per_group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_reading, "ROWS_PER_BATCH", rows_per_batch)
        batches = [batch for chunk in in_chunks(parts) for batch in read_chunk(file, chunk)]
    assert [row for batch in batches for row in batch.rows] == rows
    assert all(0 < len(batch.rows) <= rows_per_batch and not batch.unreadable for batch in batches)


@settings(deadline=None)
@given(kinds, numbers_of_characters, up_to_seven, up_to_nine, up_to_nine)
def test_reading_goes_on_after_any_batch(tmp_path_factory, kind, lengths, parts, rows_per_group, rows_per_batch):
    file = write(tmp_path_factory.mktemp("places") / f"rows.{kind}", rows_of_lengths(lengths), rows_per_group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_reading, "ROWS_PER_BATCH", rows_per_batch)
        for chunk in in_chunks(parts):
            batches = list(read_chunk(file, chunk))
            for number, batch in enumerate(batches, start=1):
                rest = [row for later in batches[number:] for row in later.rows]
                assert read(file, chunk, batch.next_place) == rest


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_nothing_is_past_the_end(tmp_path, row, kind):
    file = write(tmp_path / f"rows.{kind}", [row(number) for number in range(5)])
    for chunk in in_chunks(2):
        assert read(file, chunk)
        assert list(read_chunk(file, chunk, PAST_THE_END)) == []


@pytest.mark.parametrize("parts", range(1, 8))
@pytest.mark.parametrize(
    ("separator", "end"), [(b"\n", b""), (b"\r\n", b"\r\n"), (b"\n\n \n", b"\n\n"), (b"\n\xff\n", b"\n")]
)
def test_ends_of_lines_and_what_is_between_rows_do_not_matter(tmp_path, row, monkeypatch, parts, separator, end):
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 2)
    rows = [row(number, query="?" * (number * 37 % 101)) for number in range(9)]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(separator.join(json.dumps(one).encode() for one in rows) + end)
    batches = [list(read_chunk(file, chunk)) for chunk in in_chunks(parts)]
    assert [one for chunk in batches for batch in chunk for one in batch.rows] == only_columns(rows)
    invalid = sum(batch.unreadable.get(INVALID_UTF8, 0) for chunk in batches for batch in chunk)
    assert invalid == (len(rows) - 1 if b"\xff" in separator else 0)
    for part, chunk in enumerate(batches):
        for batch, after in pairwise(chunk):
            again = next(read_chunk(file, Chunk(0, part, parts), batch.next_place))
            assert (again.rows, again.unreadable) == (after.rows, after.unreadable)


def test_a_file_is_cut_into_chunks_by_its_size(monkeypatch):
    monkeypatch.setattr(chunk_module, "BYTES_PER_CHUNK", 100)
    assert [len(chunks_of(0, size)) for size in (0, 1, 100, 101, 1000)] == [1, 1, 1, 2, 10]
    assert chunks_of(3, 250) == tuple(Chunk(3, part, 3) for part in range(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_megabyte_is_read_whole(tmp_path, row, kind):
    rows = [row(0), row(1, query="é?" * 2**19), row(2)]
    file = write(tmp_path / f"rows.{kind}", rows)
    assert [one for chunk in in_chunks(5) for one in read(file, chunk)] == only_columns(rows)


def test_compression_shows_in_the_content_whatever_the_name(tmp_path, row):
    rows = [row(number) for number in range(9)]
    compressed = write(tmp_path / "rows.jsonl.gz", rows)
    assert read(compressed.rename(tmp_path / "rows.jsonl")) == only_columns(rows)
    assert read(write(tmp_path / "rows.jsonl", rows).rename(compressed)) == only_columns(rows)
    two_members = write(tmp_path / "a.jsonl.gz", rows[:4]).read_bytes() + write(compressed, rows[4:]).read_bytes()
    compressed.write_bytes(two_members)
    assert [one for chunk in in_chunks(3) for one in read(compressed, chunk)] == only_columns(rows)


# Refused


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("damage", ["no end", "flipped sum", "what is no gzip after it"])
def test_a_damaged_compressed_file_is_refused(tmp_path, row, part, damage):
    file = write(tmp_path / "rows.jsonl.gz", [row(number) for number in range(50)])
    content = file.read_bytes()
    ends = {"no end": content[:-20], "flipped sum": content[:-8] + b"sum?" + content[-4:]}
    file.write_bytes(ends.get(damage, content + b"BZh"))
    with pytest.raises(BadShardError, match=r"^rows\.jsonl\.gz is torn or damaged, it cannot be decompressed"):
        read(file, Chunk(0, part, 2))


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("jsonl.gz", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("jsonl", b"\x28\xb5\x2f\xfd\x04", "is torn or damaged, it cannot be decompressed"),
        ("jsonl", b"BZh9", "is compressed by bzip2: decompress it"),
        ("jsonl.gz", b"\xfd7zXZ\0\0", "is compressed by xz: decompress it"),
        ("jsonl", b"PK\x03\x04", "is a zip archive: unpack it"),
        ("jsonl", "{}\n".encode("utf-16"), "is UTF-16: make it UTF-8"),
        ("parquet", b"PARE", "is an encrypted parquet file: decrypt it"),
        ("jsonl", b'[{"query": 1}]', "line 1 is no JSON object: .*`jq -c "),
        ("jsonl", b'{"query": "a", "query": "b"}', "line 1 is no JSON \\('query' stands in it twice"),
        ("jsonl", b'{"query": {"a": 1, "a": 1}}', "line 1 is no JSON \\('a' stands in it twice"),
    ],
)
def test_what_holds_no_rows_is_refused_by_what_it_is(tmp_path, kind, content, message):
    (tmp_path / f"rows.{kind}").write_bytes(content)
    with pytest.raises(BadShardError, match=rf"^rows\.{kind},? {message}"):
        read(tmp_path / f"rows.{kind}")


def test_two_columns_of_one_name_are_refused(tmp_path, row):
    table = pa.Table.from_pylist([row(0)])
    pq.write_table(table.append_column("query", pa.array(["Which?"])), tmp_path / "rows.parquet")
    with pytest.raises(BadShardError, match=r"^rows\.parquet has several columns query"):
        read(tmp_path / "rows.parquet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", range(3))
def test_a_missing_column_is_refused_in_every_chunk(tmp_path, row, kind, part):
    file = tmp_path / f"rows.{kind}"
    rows = [{name: value for name, value in row(number).items() if name != "query"} for number in range(9)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        write(file, rows)
    with pytest.raises(
        BadShardError, match=rf"^rows\.{kind} has no column query; it has synth_id, language, .*words\."
    ):
        read(file, Chunk(0, part, 3))


@pytest.mark.parametrize(
    "values", [pa.array([1]), pa.array([1]).dictionary_encode(), pa.array([["Why?"]]), pa.array([b"Why?"])]
)
def test_a_parquet_column_of_another_type_is_refused(tmp_path, row, values):
    table = pa.Table.from_pylist([row(1)])
    table = table.set_column(table.schema.get_field_index("query"), "query", values)
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(BadShardError, match=r"^rows\.parquet: column query holds .*, string is wanted"):
        read(tmp_path / "rows.parquet")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"query": 5}, "line 8: query is 5, a string or null is wanted"),
        ({"query": False}, "line 8: query is false, a string or null is wanted"),
        ({"constraints": ["must_include"]}, r"line 8: constraints is \[\"must_include\"\], a string or null is wanted"),
        (b'{"query": "Why?"\n', r"line 8 is no JSON \(.*\): '{\"query\": \"Why\?\""),
        (b"\0\0\0\n", "line 8 is no JSON"),
        (["Why?"], r"line 8 is no JSON object: '\[\"Why\?\"\]"),
        (b"null\n", "line 8 is no JSON object: 'null"),
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_a_line_that_is_no_row_is_refused_by_its_number_in_the_file(tmp_path, row, line, message, parts):
    file = write_lines(tmp_path / "rows.jsonl", *(row(number) for number in range(6)), b"\n", line, row(7), row(8))
    refused = []
    for chunk in in_chunks(parts):
        try:
            read(file, chunk)
        except BadShardError as error:
            refused.append((chunk.part, error))
    [(part, error)] = refused
    assert re.match(f"rows.jsonl, {message}", str(error))
    assert parts == 1 or part > 0  # so that lines before the chunk had to be counted


def test_a_line_that_is_nested_too_deep_is_refused(tmp_path, row):
    file = write_lines(tmp_path / "rows.jsonl", row(0), b"[" * 100_000 + b"\n")
    with pytest.raises(BadShardError, match=r"^rows\.jsonl, line 2 is no JSON"):
        read(file)


def test_a_beginning_that_is_no_json_is_refused_by_its_line(tmp_path, row):
    file = write_lines(tmp_path / "rows.jsonl", b"\n", b"\n", b"query,answer\n", row(0))
    with pytest.raises(BadShardError, match=r"^rows\.jsonl, line 3 is no JSON"):
        read(file)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "is an HTML page"),
        (b"\xef\xbb\xbf\r\n <HTML>\n", "is an HTML page"),
    ],
)
def test_what_stands_in_a_files_place_is_refused(tmp_path, kind, content, message):
    file = tmp_path / f"rows.{kind}"
    file.write_bytes(content)
    with pytest.raises(BadShardError, match=rf"^rows\.{kind} {message}"):
        read(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no parquet file: it begins with b''"),
        (b"\x1f\x8b\x08\0", r"is no parquet file: it begins with b'\\x1f"),
    ],
)
def test_a_parquet_file_that_is_none_is_refused(tmp_path, content, message):
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(BadShardError, match=rf"^rows\.parquet {message}"):
        read(tmp_path / "rows.parquet")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_parquet_file_without_its_end_is_refused(tmp_path, row, kept):
    file = write(tmp_path / "rows.parquet", [row(number) for number in range(500)])
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BadShardError, match=r"^rows\.parquet is torn or damaged, its footer cannot be read"):
        read(file)


@pytest.mark.parametrize("use_dictionary", [False, True])
def test_a_damaged_row_group_is_named_after_the_rows_before_it(tmp_path, row, use_dictionary):
    options = {"use_dictionary": use_dictionary, "compression": "none", "write_page_checksum": True}
    file = write(tmp_path / "rows.parquet", [row(number) for number in range(30)], rows_per_group=10, **options)
    column = pq.read_metadata(file).row_group(1).column(COLUMNS.index("query"))
    content = bytearray(file.read_bytes())
    begin = column.dictionary_page_offset if use_dictionary else column.data_page_offset
    end = column.data_page_offset if use_dictionary else begin + column.total_compressed_size
    content[end - 1] ^= 1
    assert begin < end
    file.write_bytes(content)
    batches = read_chunk(file, WHOLE)
    assert next(batches).rows == only_columns([row(number) for number in range(10)])
    with pytest.raises(BadShardError, match=r"^rows\.parquet, row group 1 \(rows 10 to 19\) cannot be read \(.*CRC"):
        next(batches)


@pytest.mark.parametrize("part", range(3))
def test_a_damaged_row_group_does_not_touch_the_chunks_beside_it(tmp_path, row, part):
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    file = write(tmp_path / "rows.parquet", [row(number) for number in range(30)], rows_per_group=10, **options)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"What follows 15?", b"What follows 51?"))
    with pytest.raises(BadShardError, match="row group 1") if part == 1 else nullcontext():
        assert len(read(file, Chunk(0, part, 3))) == 10


# Read by a stated rule


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_without_rows_gives_none(tmp_path, kind):
    file = write(tmp_path / f"rows.{kind}", [])
    for chunk in in_chunks(3):
        assert list(read_chunk(file, chunk)) == []


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_json_lines_without_a_row_give_none(tmp_path, content):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert list(read_chunk(tmp_path / "rows.jsonl")) == []


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_parquet_rows_of_invalid_utf8_are_counted_and_the_others_kept(tmp_path, encode, kind):
    raw = [b"One?", b"T\xff?", None, b"Half: \xed\xa0\x80", "Vierte?é".encode(), b"One?"]
    binary = pa.binary() if kind == pa.string() else pa.large_binary()
    columns = {column: pa.nulls(len(raw), pa.string()) for column in COLUMNS[:-1]}
    columns["synthetic_answer"] = pa.array(map(str, range(len(raw))))
    columns["query"] = pa.array(raw, binary).view(kind)
    if encode:
        columns["query"] = columns["query"].dictionary_encode()
    del columns["additional_seed_url"]
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), file, row_group_size=4)
    rows, unreadable = read_all(file)
    assert [(row["query"], row["synthetic_answer"]) for row in rows] == [
        ("One?", "0"),
        (None, "2"),
        ("Vierte?é", "4"),
        ("One?", "5"),
    ]
    assert all(row.keys() == set(COLUMNS) and row["additional_seed_url"] is None for row in rows)
    assert unreadable == {INVALID_UTF8: 2}


@pytest.mark.parametrize("broken", range(3))
def test_json_lines_of_invalid_utf8_are_counted_and_the_others_kept(tmp_path, row, broken):
    lines = [json.dumps(row(number)).encode() + b"\n" for number in range(3)]
    lines[broken] = lines[broken].replace(b"follows", b"f\xffollows")
    rows, unreadable = read_all(write_lines(tmp_path / "rows.jsonl", *lines))
    assert rows == only_columns(row(number) for number in range(3) if number != broken)
    assert unreadable == {INVALID_UTF8: 1}


def test_a_shard_of_nothing_but_invalid_utf8_is_counted(tmp_path, row):
    lines = [json.dumps(row(number)).encode().replace(b"follows", b"\xff") + b"\n" for number in range(3)]
    assert read_all(write_lines(tmp_path / "rows.jsonl", *lines)) == ([], {INVALID_UTF8: 3})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_in_a_text_is_repaired_and_can_be_written(tmp_path, row, kind):
    file = tmp_path / f"rows.{kind}"
    if kind == "parquet":  # which has no lone surrogates but as invalid UTF-8
        write(file, [row(0, query="a\r\nb\0")])
    else:
        write_lines(file, row(0, query="a\r\nb\0", synthetic_answer="\ud800 c"))
        assert rb"\ud800" in file.read_bytes()
    [one] = read(file)
    repairs = repair(one)
    assert one["query"] == "a\nb"
    assert repairs == ["CR line ends", "NUL characters", *(["lone surrogates"] if kind == "jsonl" else [])]
    assert one["synthetic_answer"] == ("1" if kind == "parquet" else "\ufffd c")
    json.dumps(one, ensure_ascii=False).encode()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_byte_order_mark_at_the_beginning_is_passed_over(tmp_path, row, parts):
    rows = [row(number) for number in range(3)]
    file = write_lines(tmp_path / "rows.jsonl", b"\xef\xbb\xbf", *rows)
    assert [one for chunk in in_chunks(parts) for one in read(file, chunk)] == only_columns(rows)


def test_a_key_that_a_later_line_leaves_out_is_null(tmp_path, row):
    file = write_lines(tmp_path / "rows.jsonl", row(0, constraints="Short."), {"query": "Why?"}, {})
    rows = read(file)
    assert rows[0]["constraints"] == "Short."
    assert rows[1:] == [{**dict.fromkeys(COLUMNS), "query": "Why?"}, dict.fromkeys(COLUMNS)]


@pytest.mark.parametrize("kind", KINDS)
def test_linked_articles_may_be_absent(tmp_path, row, kind):
    one = row(0, additional_seed_url="https://a.org")
    assert read(write(tmp_path / f"with.{kind}", [one]))[0]["additional_seed_url"] == "https://a.org"
    del one["additional_seed_url"]
    file = tmp_path / f"without.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([one]), file)
    else:
        write_lines(file, one)
    assert read(file) == only_columns([{**one, "additional_seed_url": None}])


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.null()], ids=str
)
def test_text_columns_of_any_type_of_text_are_read(tmp_path, row, kind):
    rows = [row(number, query=None if kind == pa.null() else f"{number % 2}é?") for number in range(5)]
    table = pa.Table.from_pylist(only_columns(rows), SCHEMA)
    values = pa.nulls(5) if kind == pa.null() else pa.array([one["query"] for one in rows], pa.string()).cast(kind)
    table = table.set_column(table.schema.get_field_index("query"), "query", values)
    file = tmp_path / "rows.parquet"
    pq.write_table(table, file)
    assert pq.read_schema(file).field("query").type == kind
    assert [one for chunk in in_chunks(2) for one in read(file, chunk)] == only_columns(rows)


def test_other_columns_are_not_read(tmp_path, row):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{**row(0), "query_seed_text": 5, "embedding": [0.5]}]), file)
    assert read(file) == only_columns([row(0)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_that_is_read_is_counted_with_what_became_of_it(tmp_path, row, tokenizer, kind):
    rows = [
        row(0, query="Why <|endoftext|>?"),
        row(1, query="Why\r\nso?"),
        row(2, query=None),
        row(3, query="\u200b \ufeff"),
        row(4, synthetic_answer=None),
        row(5, synthetic_answer=" \n"),
        row(6, synthetic_answer="None"),
    ]
    file = write(tmp_path / f"rows.{kind}", rows)
    if kind == "jsonl":
        file.write_bytes(file.read_bytes() + json.dumps(row(7)).encode().replace(b"follows", b"\xff"))
    statistics, kept = DatasetStatistics(), []
    batches = read_chunk(file, WHOLE)
    for _, documents, counts in documents_of(batches, RowFilter(validation_fraction=0), tokenizer):
        statistics.add(counts)
        kept += documents
    assert statistics.rows_read == len(rows) + (kind == "jsonl")
    assert statistics.dropped_rows == {
        "no question": 2,
        "no answer": 2,
        "question or answer is a written null": 1,
        **({INVALID_UTF8: 1} if kind == "jsonl" else {}),
    }
    assert statistics.kept_rows == {"train": 2}
    assert statistics.repaired_rows == {"CR line ends": 1}
    end = tokenizer.eos_token_id
    assert [list(document.token_ids).index(end) for document in kept] == [len(one.token_ids) - 1 for one in kept]
    assert tokenizer.decode(kept[0].token_ids[:-1]).startswith("Q: Why <|endoftext|>?\n\nReasoning:")
