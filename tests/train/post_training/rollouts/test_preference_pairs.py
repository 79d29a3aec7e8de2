"""Pairs of a better and a worse answer: from rows of each form, and from sampled answers."""

import pytest
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.data.rows.synth import question_to_ids
from train.post_training.data.conversations import UnusableRowError
from train.post_training.rollouts.preference_pairs import make_pairs, read_pairs, row_to_pair, write_pairs


PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
QUESTION = {"exercise": "math exercise", "query": "What is 2 + 3?", "synthetic_answer": "5", "constraints": None}


def said(text, **keys):
    return [{"role": "assistant", "content": text, **keys}]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)


@pytest.fixture(scope="module")
def pair_of(tokenizer):
    return lambda row, max_tokens=100: row_to_pair(row, tokenizer, max_tokens)


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
    assert tokenizer.decode(pair.prompt_ids) == "Be kind.\n\nQ: Why?\n\n"
    assert pair.prompt_ids == question_to_ids("Be kind.\n\nQ: Why?", tokenizer)
    assert tokenizer.decode(pair.chosen_ids) == "A: So.<|endoftext|>"
    assert tokenizer.decode(pair.rejected_ids) == "A: No.<|endoftext|>"


def test_plain_texts_and_text_that_looks_like_an_end(pair_of, tokenizer):
    pair = pair_of({"prompt": "<|endoftext|>?", "chosen": "a<|endoftext|>b", "rejected": "c"})
    assert tokenizer.decode(pair.chosen_ids) == "A: a<|endoftext|>b<|endoftext|>"
    assert [*pair.prompt_ids, *pair.chosen_ids, *pair.rejected_ids].count(tokenizer.eos_token_id) == 2


def test_several_turns_and_reasoning(pair_of, tokenizer):
    before = [*PROMPT, *said("So."), {"role": "user", "content": "Again?"}]
    pair = pair_of({"chosen": [*before, *said("Yes.", reasoning="r")], "rejected": [*before, *said("Yes.")]})
    assert tokenizer.decode(pair.prompt_ids) == "Be kind.\n\nQ: Why?\n\nA: So.<|endoftext|>Q: Again?\n\n"
    assert tokenizer.decode(pair.chosen_ids) == "Reasoning:\nr\n\nA: Yes.<|endoftext|>"
    assert tokenizer.decode(pair.rejected_ids) == "A: Yes.<|endoftext|>"


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


@pytest.fixture
def sampled(tokenizer):
    return lambda *texts: [tokenizer(text)["input_ids"] for text in texts]


def test_right_answers_are_paired_with_wrong_ones(tokenizer, sampled):
    right = ["A: 5<|endoftext|>", "Reasoning:\n2 + 3 = 5\n\nA: 5<|endoftext|>", "A: 5.0<|endoftext|>"]
    wrong = ["A: 6<|endoftext|>", "A: 7", "nothing<|endoftext|>"]
    unused = ["A: 5", "so\nA: 5<|endoftext|>"]  # right, but not in the right form: neither better nor worse
    answers = [sampled(*right, *wrong, *wrong, *unused)]
    pairs = list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=10, seed=0))
    assert {tokenizer.decode(pair.chosen_ids) for pair in pairs} == set(right)
    assert {tokenizer.decode(pair.rejected_ids) for pair in pairs} == set(wrong)
    assert len(pairs) == 3
    assert {tuple(pair.prompt_ids) for pair in pairs} == {tuple(question_to_ids("Q: What is 2 + 3?", tokenizer))}
    assert pairs == list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=10, seed=0))
    assert len(list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=2, seed=0))) == 2


@pytest.mark.parametrize("text", ["A: 5<|endoftext|>", "A: 6<|endoftext|>"])
def test_no_pairs_where_all_are_right_or_all_wrong(tokenizer, sampled, text):
    assert not list(make_pairs([QUESTION], [sampled(text, text)], tokenizer, 4, seed=0))


def test_pairs_can_be_read_again(tokenizer, sampled, tmp_path):
    pairs = list(make_pairs([QUESTION], [sampled("A: 5<|endoftext|>", "A: 6")], tokenizer, 4, seed=0))
    write_pairs(tmp_path / "pairs.jsonl", {"train": pairs, "validation": pairs}, tokenizer)
    assert read_pairs(tmp_path / "pairs.jsonl") == {"train": pairs, "validation": pairs}
    assert '"chosen": "A: 5<|endoftext|>", "rejected": "A: 6"' in (tmp_path / "pairs.jsonl").read_text()
