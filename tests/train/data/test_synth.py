import pytest

from train.data.synth import (
    FAILED_GENERATION,
    question_to_ids,
    reason_to_drop,
    row_to_question,
    row_to_text,
    split_of,
    text_to_answer,
)


SOURCES = "<source_1>\nThe river is 10 km long.\n</source_1>"


def test_text_has_question_reasoning_and_answer(row):
    text = row_to_text(row(0, query=" Why? ", synthetic_reasoning="Because.\n", synthetic_answer="So."))
    assert text == "Q: Why?\n\nReasoning:\nBecause.\n\nA: So."


@pytest.mark.parametrize("reasoning", [None, "", "  \n"])
def test_text_without_reasoning_goes_straight_to_the_answer(row, reasoning):
    text = row_to_text(row(0, query="Why?", synthetic_reasoning=reasoning, synthetic_answer="So."))
    assert text == "Q: Why?\n\nA: So."


def test_sources_of_a_rag_row_stand_before_the_question(row):
    text = row_to_text(row(0, exercise="rag", constraints=SOURCES, query="How long?"))
    assert text.startswith(f"{SOURCES}\n\nQ: How long?\n\nReasoning:\n")


def test_constraints_of_other_exercises_stay_out_of_the_text(row):
    text = row_to_text(row(0, exercise="constrained writing", constraints="must_include: river"))
    assert "must_include" not in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"query": None}, "no question"),
        ({"query": " \n"}, "no question"),
        ({"synthetic_answer": None}, "no answer"),
        ({"synthetic_answer": ""}, "no answer"),
        ({"constraints": FAILED_GENERATION}, "failed generation"),
        ({"exercise": "rag"}, "rag without sources"),
        ({"exercise": "rag", "constraints": SOURCES}, None),
        ({"language": "fr"}, "other language"),
        ({"language": None}, "other language"),
        ({"exercise": "cooking"}, "other exercise"),
    ],
)
def test_reason_to_drop(row, changes, reason):
    assert reason_to_drop(row(0, **changes), languages=["en"], exercises=["memorization", "rag"]) == reason


def test_without_a_choice_every_language_and_exercise_is_kept(row):
    assert reason_to_drop(row(0, language="fr", exercise="cooking")) is None


def test_rows_of_one_article_fall_on_the_same_side(row):
    sides = [
        {(split_of(row(number, query_seed_url=f"a://{article}"), 0.3, 0) == "validation") for number in range(5)}
        for article in range(100)
    ]
    assert all(len(side) == 1 for side in sides)


def test_the_held_out_share_is_as_asked_and_another_seed_holds_out_others(row):
    rows = [row(number) for number in range(4000)]
    held_out = [(split_of(one, 0.1, split_seed=0) == "validation") for one in rows]
    others = [(split_of(one, 0.1, split_seed=1) == "validation") for one in rows]
    assert 0.08 < sum(held_out) / len(rows) < 0.12
    assert held_out != others


def test_rows_without_an_article_are_split_by_question(row):
    rows = [row(number, query_seed_url=None, query="The same?") for number in range(5)]
    assert len({(split_of(one, 0.5, 0) == "validation") for one in rows}) == 1


@pytest.mark.parametrize("reasoning", ["It does.", None])
@pytest.mark.parametrize("query", ["Why?", "Ends in a number 12", "Endet mit einem Strich –", 'He said "so"'])
def test_question_ids_are_the_beginning_of_the_texts_ids(row, tokenizer, query, reasoning):
    one = row(0, query=query, synthetic_reasoning=reasoning)
    asked = question_to_ids(row_to_question(one), tokenizer)
    text = tokenizer(row_to_text(one))["input_ids"]
    assert text[: len(asked)] == asked
    assert tokenizer.decode(text[len(asked) :]).startswith(("Reasoning:", "A:"))


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("A: Paris", "Paris"),
        ("Reasoning:\nFrance.\n\nA: Paris\n", "Paris"),
        ("Reasoning:\nA: is a letter.\n\nA: Paris", "Paris"),
        ("Reasoning:\nstill thinking", ""),
        ("USA: Paris", ""),
        ("", ""),
    ],
)
def test_the_answer_is_what_follows_the_last_mark(written, answer):
    assert text_to_answer(written) == answer
