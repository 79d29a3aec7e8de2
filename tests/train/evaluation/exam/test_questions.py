import json
from dataclasses import replace

import pytest

from train.evaluation.exam.questions import MOST_CITATION_QUESTIONS, SHORT_ANSWER_TOKENS, choose_questions, load_exam
from train.evaluation.losses.validation_rows import read_given, read_validation
from train.evaluation.opened_model import open_model


@pytest.fixture
def opened(run_folder):
    return open_model(str(run_folder))


@pytest.fixture
def validation(opened):
    return read_validation(opened.trained_on.data, opened.tokenizer, 100)


def with_recipe(opened, **changes):
    return replace(opened, trained_on=replace(opened.trained_on, **changes))


def test_without_an_exam_validation_rows_with_short_answers_make_one(opened, validation, row):
    long_answer = row(0, synthetic_answer="word " * (SHORT_ANSWER_TOKENS + 1))
    questions = choose_questions(opened, None, None, replace(validation, found=[long_answer, *validation.found]), 1000)
    assert questions.rows == validation.found
    assert str(SHORT_ANSWER_TOKENS) in questions.description
    assert questions.known == [False] * len(questions.rows)  # of the validation
    assert choose_questions(opened, None, None, validation, 4).rows != validation.found[:4]  # drawn
    with pytest.raises(ValueError, match="--exam, or --no_exam"):
        choose_questions(opened, None, None, replace(validation, found=[long_answer]), 10)
    with pytest.raises(ValueError, match="give --exam"):
        choose_questions(opened, None, None, None, 10)


def test_the_recipes_exam_comes_first_and_the_command_lines_before_it(opened, validation, tmp_path, rows_in_groups):
    exam = tmp_path / "exam.jsonl"
    exam.write_text("".join(json.dumps(row) + "\n" for row in rows_in_groups))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(rows_in_groups[0]) + "\n")
    has_exam = with_recipe(opened, exam=str(exam))
    questions = choose_questions(has_exam, None, None, validation, 1000)
    assert len(questions.rows) == len(rows_in_groups)
    assert questions.max_new_tokens == 8  # the recipe's
    # known and new are told apart by the training rows, which are prepared for that
    held_out_queries = {row["query"] for row in validation.found}
    assert questions.known == [row["query"] not in held_out_queries for row in questions.rows]
    questions = choose_questions(has_exam, str(other), None, validation, 1000)
    assert len(questions.rows) == 1
    assert questions.max_new_tokens == 16  # not the recipe's exam: half of what it reads at once
    assert choose_questions(has_exam, str(other), 5, validation, 1000).max_new_tokens == 5
    long = choose_questions(with_recipe(opened, exam=str(other), exam_tokens=64), None, None, validation, 1000)
    assert long.max_new_tokens == 16
    assert "at most 16 tokens and not 64: half of the 32" in long.notes[1]


def test_models_of_the_sample_and_without_a_recipe_take_the_samples_exam(opened, tiny_folder):
    without = choose_questions(open_model(str(tiny_folder)), None, None, None, 1000)
    assert len(without.rows) == len(load_exam("sample"))
    assert without.known is None
    assert "no recipe" in without.notes[0]
    sample = with_recipe(opened, data=replace(opened.trained_on.data, dataset=["sample"]))
    assert len(choose_questions(sample, None, None, None, 1000).rows) == len(load_exam("sample"))


def test_known_and_new_are_not_told_apart_where_that_is_not_known(opened, validation, monkeypatch):
    streamed = with_recipe(opened, data=replace(opened.trained_on.data, streaming=True, max_eval_sequences=8))
    assert choose_questions(streamed, None, None, validation, 10).known is None
    gone = with_recipe(opened, data=replace(opened.trained_on.data, dataset=["gone.parquet"]))
    questions = choose_questions(gone, None, None, validation, 10)
    assert questions.known is None
    assert "cannot be read" in questions.notes[0]
    monkeypatch.setattr("train.evaluation.exam.questions.BYTES_TO_PREPARE", 10)
    assert choose_questions(opened, None, None, validation, 10).known is None


def test_long_rag_answers_are_asked_for_their_citations(opened, validation, row, tmp_path):
    rag = [
        row(
            number,
            exercise="rag",
            constraints="<source_1>One</source_1>",
            synthetic_answer=f'{number} {"word " * 20}<ref name="source_1">One</ref>',
        )
        for number in range(MOST_CITATION_QUESTIONS + 5)
    ]
    file = tmp_path / "rag.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in [*rag, *validation.rows]))
    given = read_given(str(file), 1000)
    questions = choose_questions(opened, None, None, given, 1000)
    assert len(questions.citation_rows) == MOST_CITATION_QUESTIONS
    assert questions.citation_tokens == 32
    assert not any(row["exercise"] == "rag" for row in questions.rows)
    # an exam that has rag questions needs no others
    assert choose_questions(opened, "sample", None, given, 1000).citation_rows == []


def test_questions_that_cannot_be_asked_are_counted(tmp_path, row, caplog):
    exam = tmp_path / "exam.jsonl"
    rows = [row(0), row(1, query=" "), row(2, synthetic_answer=None), row(3, query=None)]
    exam.write_bytes("".join(f"{json.dumps(one)}\n" for one in rows).encode() + b"caf\xe9\n")
    assert load_exam(str(exam)) == list(read_given(str(exam), 10).rows)
    said = f"{exam}: 4 rows are left out (no question: 2, invalid UTF-8: 1, no answer: 1)."
    assert [record.getMessage() for record in caplog.records] == [said, said]


def test_the_sample_exam_loads_and_another_file_must_exist():
    assert 200 < len(load_exam("sample")) < 500
    with pytest.raises(ValueError, match=r"nowhere\.parquet"):
        load_exam("nowhere.parquet")
