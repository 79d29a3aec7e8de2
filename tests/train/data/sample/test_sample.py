"""The embedded sample: deterministic, in SYNTH's schema, small, and an exam that is not in the training rows."""

from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from train.data.files.sources import SAMPLE_FOLDER
from train.data.rows.synth import reason_to_drop
from train.data.sample.__main__ import write_files


SYNTH_COLUMNS = [
    "synth_id",
    "language",
    "exercise",
    "model",
    "query",
    "query_seed_url",
    "query_seed_text",
    "additional_seed_url",
    "seed_license",
    "constraints",
    "script",
    "synthetic_reasoning",
    "synthetic_answer",
    "words",
]


@pytest.fixture(scope="module")
def sample() -> dict[str, list[dict]]:
    return {name: pq.read_table(SAMPLE_FOLDER / f"{name}.parquet").to_pylist() for name in ("train", "exam")}


def test_the_generator_writes_the_shipped_rows_again(tmp_path):
    write_files(tmp_path)
    for name in ("train", "exam", "practice", "practice_exam"):
        shipped = pq.read_table(SAMPLE_FOLDER / f"{name}.parquet")
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(shipped)
    for file in (SAMPLE_FOLDER / "tokenizer").iterdir():
        assert (tmp_path / "tokenizer" / file.name).read_bytes() == file.read_bytes()


def test_it_has_synths_schema_and_is_small():
    files = [SAMPLE_FOLDER / "train.parquet", SAMPLE_FOLDER / "exam.parquet"]
    for file in files:
        schema = pq.read_schema(file)
        assert schema.names == SYNTH_COLUMNS
        assert {str(schema.field(name).type) for name in SYNTH_COLUMNS[:-1]} == {"string"}
        assert str(schema.field("words").type) == "int64"
    assert sum(file.stat().st_size for file in files) < 2_000_000


def test_every_row_is_usable_and_named_once(sample):
    rows = sample["train"] + sample["exam"]
    assert [row for row in rows if reason_to_drop(row)] == []
    assert len({row["synth_id"] for row in rows}) == len(rows)


def test_it_has_every_kind_of_row(sample):
    rows = sample["train"]
    assert {row["exercise"] for row in rows} >= {"memorization", "math exercise", "mcq", "rag", "editing"}
    assert len({row["language"] for row in rows}) >= 3
    assert any(not row["synthetic_reasoning"] for row in rows)
    assert all("<source_1>" in row["constraints"] for row in rows if row["exercise"] == "rag")


def test_no_exam_question_is_in_the_training_rows(sample):
    trained = {(row["constraints"], row["query"].casefold()) for row in sample["train"]}
    assert [row["query"] for row in sample["exam"] if (row["constraints"], row["query"].casefold()) in trained] == []


def test_the_same_question_never_has_two_answers(sample):
    answers = defaultdict(set)
    for row in sample["train"] + sample["exam"]:
        answers[row["constraints"], row["query"]].add(row["synthetic_answer"])
    assert {question: found for question, found in answers.items() if len(found) > 1} == {}
