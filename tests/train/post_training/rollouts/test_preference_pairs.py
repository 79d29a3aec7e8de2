"""Pairs of a right and a wrong answer, from sampled answers."""

import pytest

from train.data.rows.synth import question_to_ids
from train.post_training.rollouts.preference_pairs import make_pairs, read_pairs, write_pairs


QUESTION = {
    "exercise": "math exercise",
    "query": "What is 2 + 3?",
    "synthetic_answer": "5",
    "prompt": "Q: What is 2 + 3?",
}


@pytest.fixture
def sampled(tokenizer):
    return lambda *texts: [tokenizer(text)["input_ids"] for text in texts]


def test_right_answers_are_paired_with_wrong_ones(tokenizer, sampled):
    right = ["A: 5<|endoftext|>", "Reasoning:\n2 + 3 = 5\n\nA: 5<|endoftext|>", "A: 5.0<|endoftext|>"]
    wrong = ["A: 6<|endoftext|>", "A: 7", "nothing<|endoftext|>"]
    unused = ["A: 5", "so\nA: 5<|endoftext|>"]  # right, but not in the right form: neither better nor worse
    answers = [sampled(*right, *wrong, *wrong, *unused)]
    pairs = list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=10, seed=0))
    assert {tokenizer.decode(pair["chosen_ids"]) for pair in pairs} == set(right)
    assert {tokenizer.decode(pair["rejected_ids"]) for pair in pairs} == set(wrong)
    assert len(pairs) == 3
    assert {tuple(pair["prompt_ids"]) for pair in pairs} == {tuple(question_to_ids("Q: What is 2 + 3?", tokenizer))}
    assert pairs == list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=10, seed=0))
    assert len(list(make_pairs([QUESTION], answers, tokenizer, pairs_per_question=2, seed=0))) == 2


@pytest.mark.parametrize("text", ["A: 5<|endoftext|>", "A: 6<|endoftext|>"])
def test_no_pairs_where_all_are_right_or_all_wrong(tokenizer, sampled, text):
    assert not list(make_pairs([QUESTION], [sampled(text, text)], tokenizer, 4, seed=0))


def test_pairs_can_be_read_again(tokenizer, sampled, tmp_path):
    pairs = list(make_pairs([QUESTION], [sampled("A: 5<|endoftext|>", "A: 6\u2028")], tokenizer, 4, seed=0))
    write_pairs(tmp_path / "pairs.jsonl", {"train": pairs, "validation": pairs}, tokenizer)
    assert read_pairs(tmp_path / "pairs.jsonl") == {"train": pairs, "validation": pairs}
    assert '"chosen": "A: 5<|endoftext|>", "rejected": "A: 6\u2028"' in (tmp_path / "pairs.jsonl").read_text()
