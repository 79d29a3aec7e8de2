"""Which answers are the same, which can be checked at all, and the rewards."""

import pytest
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.data.sample.__main__ import build_sample
from train.post_training.rollouts.verifiable_answers import (
    MOST_WORDS,
    build_rewards,
    is_right,
    options_of,
    value_of,
    why_not_verifiable,
)


OPTIONS = "Which is a fruit?\nA) stone\nB) red apple\nC) 12\nD) chair"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("5,000", "5000"),
        ("5000.0", "5000"),
        ("$5", "5"),
        ("€ 5", "5"),
        ("20%", "20"),
        ("−3", "-3"),
        ("+3", "3"),
        (".5", "1/2"),
        ("0.50", "1/2"),
        ("2/4", "1/2"),
        ("1,234,567.5", "1234567.5"),
        ("The answer is 3.5.", "3.5"),
        ("The answer is -31. It is cold.", "-31"),
        ("First the answer is 4.\nNo: the answer is 5.", "5"),
        ("So \\boxed{7}, not the answer is 8.", "7"),
        ("3 May 1999", "1999-05-03"),
        ("May 3rd, 1999", "1999-05-03"),
        ("may 3 1999.", "3 May 1999"),
        ("tuesday.", "Tuesday"),
        ("  the   red cup", "The red cup"),
        ("Café", "café"),
    ],
)
def test_the_same(given, expected):
    assert value_of(given, {}) == value_of(expected, {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("5.000", "5000"),
        ("50,00", "5000"),
        ("12 boys", "12"),
        ("0.333", "1/3"),
        ("1/0", "0"),
        ("3", "-3"),
        ("1999-05-03", "1999-03-05"),
        ("31 February 1999", "3 March 1999"),
        ("Tuesday", "Wednesday"),
        ("cup", "the cup"),
        ("cafe", "café"),
    ],
)
def test_not_the_same(given, expected):
    assert value_of(given, {}) != value_of(expected, {})


def test_nothing_is_right_without_an_answer():
    assert not is_right(" ", {"exercise": "math exercise", "query": "?", "synthetic_answer": "."})


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("B", True),
        ("(b)", True),
        ("b.", True),
        ("B) red apple", True),
        ("Red apple.", True),
        ('The answer is B) red apple. "Apple" means a fruit.', True),
        ("A", False),
        ("B) stone", False),
        ("a red apple", False),
        ("E", False),
    ],
)
def test_options(given, right):
    row = {"exercise": "mcq", "query": OPTIONS, "synthetic_answer": "The answer is B) red apple."}
    assert is_right(given, row) == right


def test_options_in_one_line_and_numbers_among_them():
    row = {"exercise": "math mcq", "query": "Which is the most?  (a) -1/5  (b) 2  (c) 0.015", "synthetic_answer": "b"}
    assert options_of(row) == {"a": "-1/5", "b": "2", "c": "0.015"}
    assert is_right("2", row)
    assert not is_right("2.0 metres", row)


def test_letters_mean_nothing_elsewhere():
    assert options_of({"exercise": "memorization", "query": OPTIONS}) == {}
    assert options_of({"exercise": "mcq", "query": "Pick the symbol of helium: Cu, Fe, He, Pb"}) == {}
    assert options_of({"exercise": "mcq", "query": "Is b) or d) right?"}) == {}


def test_which_rows_can_be_checked():
    train, exam = build_sample()
    reasons = {}
    for row in (*train, *exam):
        reasons.setdefault(row["exercise"], set()).add(why_not_verifiable(row))
    unchecked = "answer cannot be verified: exercise without a single one"
    assert reasons == {
        **{exercise: {None} for exercise in ("math exercise", "mcq", "rag", "memorization")},
        "editing": {unchecked},
    }
    long = {"exercise": "memorization", "query": "?", "synthetic_answer": "word " * (MOST_WORDS + 1)}
    assert why_not_verifiable(long) == "answer cannot be verified: over 6 words"
    assert why_not_verifiable({**long, "synthetic_answer": f"The answer is 7. {'It is so. ' * 5}"}) is None
    assert why_not_verifiable({"query": "1 + 1?", "synthetic_answer": "2"}) is None  # of no exercise


def test_every_answer_of_the_sample_is_right_and_another_is_not():
    for row in build_sample()[0]:
        if why_not_verifiable(row) is None:
            assert is_right(row["synthetic_answer"], row)
            assert not is_right(row["synthetic_answer"] + "x", row)


def test_rewards():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
    texts = [
        "Reasoning:\nsum: 2 + 3 = 5\n\nA: 5<|endoftext|>",  # right in answer and form
        "A: 5.0<|endoftext|>",  # without reasoning, too
        "Reasoning:\nsum: 2 + 3 = 5\n\nA: 6<|endoftext|>",  # wrong
        "Reasoning:\nsum: 2 + 3 = 5<|endoftext|>",  # no answer
        "A: 5",  # did not end
        "Reasoning:\nsum of\nA: 5",  # cut off inside its reasoning
        "so it is\nA: 6\nA: 5<|endoftext|>",  # the last answer counts, the form is another
        "",
    ]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    completions = [text.removesuffix("<|endoftext|>") for text in texts]
    columns = {"exercise": ["math exercise"], "query": ["What is 2 + 3?"], "synthetic_answer": ["5"]}
    columns = {name: values * len(texts) for name, values in columns.items()}
    accuracy, form = build_rewards(tokenizer.eos_token_id)
    assert (accuracy.__name__, form.__name__) == ("accuracy_reward", "format_reward")
    assert accuracy(completions=completions, completion_ids=ids, **columns) == [1, 1, 0, 0, 1, 0, 1, 0]
    assert form(completions=completions, completion_ids=ids, **columns) == [1, 1, 1, 0, 0, 0, 0, 0]
