import io
import random

import pyarrow as pa
import pytest

from train.data.files.chunk import BadShardError, Chunk, Columns
from train.data.files.shard_reading import read_chunk
from train.data.files.text_documents import PASSAGE_BYTES


def read(content: bytes, separator=None, parts=1, name="a.txt", rows_per_batch=1000):
    columns = Columns(text=("text", "language"), forms=(("text",),), separator=separator)
    return [
        batch
        for part in range(parts)
        for batch in read_chunk(io.BytesIO(content), name, Chunk(0, part, parts), columns, None, rows_per_batch)
    ]


def texts(batches):
    return [row["text"] for batch in batches for row in batch.rows]


def test_passages_are_all_of_a_text_cut_at_line_ends():
    content = "".join(f"line {number} é\n" for number in range(5000)).encode()
    passages = texts(read(content))
    assert "".join(passages) == content.decode()
    assert all(passage.endswith("\n") for passage in passages)
    assert len(passages) == -(-len(content) // PASSAGE_BYTES)


@pytest.mark.parametrize("content", ["é" * 20_000, "word " * 5_000, "一二" * 9_000, "a" * PASSAGE_BYTES, "short", "\n"])
def test_passages_without_lines_lose_nothing(content):
    assert "".join(texts(read(content.encode()))) == content


@pytest.mark.parametrize("separator", [None, "\n\n", "<|endoftext|>", "--", "aa"])
def test_a_text_read_in_parts_or_from_any_place_has_the_same_documents(separator):
    draw = random.Random(0)
    pieces = ["a", "b", "\n", "-", " ", "ü", "<|endoftext|>", "some words "]
    content = "".join(draw.choices(pieces, k=12_000)).encode()
    whole = read(content, separator, rows_per_batch=1)
    documents = texts(whole)
    assert len(documents) > 3
    for parts in (2, 3, 7, 40):
        assert texts(read(content, separator, parts)) == documents
    columns = Columns(text=("text",), separator=separator)
    for number in draw.sample(range(len(whole)), 30) if len(whole) > 30 else range(len(whole)):
        place = whole[number].next_place
        rest = read_chunk(io.BytesIO(content), "a.txt", Chunk(0, 0, 1), columns, place)
        assert texts(rest) == documents[number + 1 :]


def test_documents_stand_between_separators():
    assert texts(read(b"\xef\xbb\xbfone\n\n\n\ntwo\nlines\n\nthree\n\n", "\n\n")) == ["one", "two\nlines", "three"]
    assert texts(read(b"<|endoftext|>one<|endoftext|>two", "<|endoftext|>")) == ["one", "two"]


def test_a_long_document_is_read_whole():
    content = b"x" * 3_000_000 + b"\n\n" + b"y" * 5
    assert list(map(len, texts(read(content, "\n\n")))) == [3_000_000, 5]


def test_text_that_is_no_utf8_is_counted():
    (batch,) = read(b"good\n\nb\xffd\n\ngood", "\n\n")
    assert [row["text"] for row in batch.rows] == ["good", "good"]
    assert batch.unreadable == {"invalid UTF-8": 1}


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_zstd_is_read_as_what_it_holds(kind):
    line = b'{"text": "a line", "language": null}\n'
    content = pa.compress(line * 30_000, codec="zstd", asbytes=True)
    for parts in (1, 3):
        assert len(texts(read(content, "\n", parts, f"a.{kind}.zst"))) == 30_000
    with pytest.raises(BadShardError, match="torn or damaged, it cannot be decompressed"):
        read(content[:-9], "\n", 1, f"a.{kind}.zst")
