"""The practice of post-training: deterministic, verifiable, and in neither the sample nor its own exam."""

import re

import pytest

from train.data.rows.synth import reason_to_drop
from train.data.sample.__main__ import EXAM_ROWS, PRACTICE_ROWS, build_practice, build_sample
from train.post_training.rollouts.verifiable_answers import why_not_verifiable


@pytest.fixture(scope="module")
def practice() -> tuple[list[dict], list[dict]]:
    return build_practice(build_sample()[1])


def sources_of(row: dict) -> frozenset[str]:
    """The texts of the sources of a row, without order."""
    return frozenset(re.sub(r"</?source_\d+>", "", line) for line in row["constraints"].splitlines())


def test_every_practice_row_can_be_checked_and_says_nothing_but_the_answer(practice):
    rows, _ = practice
    assert len(rows) == PRACTICE_ROWS
    for row in rows:
        assert reason_to_drop(row) is None
        assert why_not_verifiable(row) is None
        assert row["synthetic_reasoning"] == ""
        assert f"{row['synthetic_answer']}</source_" in row["constraints"]


def test_no_two_questions_have_the_same_sources(practice):
    rows, exam = practice
    sample_train, sample_exam = build_sample()
    asked = [row for row in (*rows, *exam) if row["exercise"] == "rag"]
    shown = [row for row in sample_train if row["exercise"] == "rag"]
    assert len({sources_of(row) for row in (*asked, *shown)}) == len(asked) + len(shown)
    assert len(exam) == len(sample_exam) + EXAM_ROWS
    assert (
        len({row["query_seed_url"] for row in (*rows, *exam)})
        == len(rows) + len({row["query_seed_url"] for row in sample_exam}) + EXAM_ROWS
    )
