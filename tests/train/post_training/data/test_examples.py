"""Rows with a better and a worse answer, and questions whose answer can be verified, as examples."""

import pytest

from train.data.rows.conversations import UnusableRowError
from train.data.rows.synth import question_to_ids
from train.post_training.data.examples import pair_example, question_example


PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]


def said(text, **keys):
    return [{"role": "assistant", "content": text, **keys}]


@pytest.fixture
def pair_of(tokenizer):
    return lambda row, max_tokens=100: pair_example(row, tokenizer, max_tokens)


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [*PROMPT, *said("So.")], "rejected": [*PROMPT, *said("No.")]},
        {"prompt": "Why?", "chosen": [*PROMPT, *said("So.")], "rejected": [*PROMPT, *said("No.")]},  # UltraFeedback
        {"prompt": PROMPT, "chosen": said("So."), "rejected": said("No.")},
        {"prompt": PROMPT, "chosen": "So.", "rejected": "No."},
    ],
)
def test_every_form_gives_the_same_ids(pair_of, tokenizer, row):
    pair = pair_of(row)
    assert tokenizer.decode(pair["prompt_ids"]) == "Be kind.\n\nQ: Why?\n\n"
    assert pair["prompt_ids"] == question_to_ids("Be kind.\n\nQ: Why?", tokenizer)
    assert tokenizer.decode(pair["chosen_ids"]) == "A: So.<|endoftext|>"
    assert tokenizer.decode(pair["rejected_ids"]) == "A: No.<|endoftext|>"


def test_plain_texts_and_text_that_looks_like_an_end(pair_of, tokenizer):
    pair = pair_of({"prompt": "<|endoftext|>?", "chosen": "a<|endoftext|>b", "rejected": "c"})
    assert tokenizer.decode(pair["chosen_ids"]) == "A: a<|endoftext|>b<|endoftext|>"
    assert [*pair["prompt_ids"], *pair["chosen_ids"], *pair["rejected_ids"]].count(tokenizer.eos_token_id) == 2


def test_several_turns_and_reasoning(pair_of, tokenizer):
    before = [*PROMPT, *said("So."), {"role": "user", "content": "Again?"}]
    pair = pair_of({"chosen": [*before, *said("Yes.", reasoning="r")], "rejected": [*before, *said("Yes.")]})
    assert tokenizer.decode(pair["prompt_ids"]) == "Be kind.\n\nQ: Why?\n\nA: So.<|endoftext|>Q: Again?\n\n"
    assert tokenizer.decode(pair["chosen_ids"]) == "Reasoning:\nr\n\nA: Yes.<|endoftext|>"
    assert tokenizer.decode(pair["rejected_ids"]) == "A: Yes.<|endoftext|>"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "So.", "rejected": "No."}, "chosen and rejected without a prompt"),
        ({"chosen": said("So."), "rejected": said("No.")}, "chosen and rejected without a prompt"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": " So.\n"}, "chosen and rejected are the same"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": " "}, "empty message of the assistant"),
        (
            {"chosen": [*PROMPT, *said("So.")], "rejected": [PROMPT[1], *said("No.")]},
            "chosen and rejected differ before the last answer",
        ),
        ({"chosen": [*PROMPT, *said("So.")], "rejected": PROMPT}, "no assistant turn"),
        (
            {"chosen": [*PROMPT, *said("So.")], "rejected": [*PROMPT, *said("No."), PROMPT[1]]},
            "rejected does not end in an answer",
        ),
        ({"prompt": "Why?", "chosen": "word " * 100, "rejected": "No."}, "longer than --max_length"),
    ],
)
def test_rows_that_are_left_out(pair_of, row, reason):
    with pytest.raises(UnusableRowError, match=reason):
        pair_of(row)


def test_a_question_brings_what_its_answer_is_verified_by(row, tokenizer):
    rag = row(1, exercise="rag", constraints="<source_1>One</source_1>", query="Who\r\nis it?", synthetic_answer="Ann")
    assert question_example(rag, tokenizer, 100) == {
        "prompt": "<source_1>One</source_1>\n\nQ: Who\nis it?",
        "exercise": "rag",
        "query": "Who\nis it?",
        "synthetic_answer": "Ann",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exercise": "creative writing"}, "answer cannot be verified"),
        ({"query": "word " * 100}, "question leaves no room in the context for an answer"),
    ],
)
def test_questions_that_are_left_out(row, tokenizer, changes, reason):
    with pytest.raises(UnusableRowError, match=reason):
        question_example(row(1, **changes), tokenizer, 50)
