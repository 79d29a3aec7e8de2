"""Prompts are the ids of the beginning of what the model was trained on."""

import pytest

from hub_card.space.chat.prompt import build_prompt
from train.data.rows.synth import question_to_ids as question_to_training_ids


QUESTIONS = ["Why?", "  Why ?\n", "What is 2 + 2?\n\nThink.", "a<|endoftext|>b", "Wer schrieb „Emma“?", "🤖\r\nno", "A"]
CONVERSATION = [
    {"role": "user", "content": "Who wrote Emma?"},
    {"role": "assistant", "content": "Emma is by Austen.", "metadata": {"title": "Reasoning"}},
    {"role": "assistant", "content": "Jane Austen", "metadata": None},
    {"role": "user", "content": "When?"},
    {"role": "assistant", "content": "In 1815"},
    {"role": "user", "content": "Stopped before the answer"},
    {"role": "assistant", "content": "Well", "metadata": {"title": "Reasoning"}},
]


def question_to_ids(tokenizer, question: str) -> list[int]:
    return build_prompt(tokenizer, question, [], context=1024, reply_tokens=64)


def as_the_page_returns(message: dict) -> dict:
    return {"metadata": None, "options": None, **message, "content": [{"type": "text", "text": message["content"]}]}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_the_ids_of_training(tokenizer, question):
    cleaned = question.strip().replace("\r\n", "\n")
    assert question_to_ids(tokenizer, question) == question_to_training_ids(f"Q: {cleaned}", tokenizer)
    assert tokenizer.eos_token_id not in question_to_ids(tokenizer, question)


def test_half_a_surrogate_pair_is_asked_without_it(tokenizer):
    assert tokenizer.decode(question_to_ids(tokenizer, "a\ud800b")) == "Q: a?b\n\n"


def test_a_conversation_has_the_ids_of_the_chat_template(tokenizer):
    messages = [
        {"role": "user", "content": "Who wrote Emma?"},
        {"role": "assistant", "content": "Jane Austen", "reasoning_content": "Emma is by Austen."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "In 1815"},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "In London"},
    ]
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    ids = build_prompt(tokenizer, "Where?", CONVERSATION, context=1024, reply_tokens=64)
    assert whole[: len(ids)] == ids
    assert tokenizer.decode(whole[len(ids) :]).startswith("A: In London")
    returned = [as_the_page_returns(message) for message in CONVERSATION]
    assert build_prompt(tokenizer, "Where?", returned, context=1024, reply_tokens=64) == ids


def test_the_oldest_turns_go_where_the_context_is_short(tokenizer):
    all_ids = build_prompt(tokenizer, "Where?", CONVERSATION, context=1024, reply_tokens=10)
    shortest = len(all_ids) + 10
    assert build_prompt(tokenizer, "Where?", CONVERSATION, context=shortest, reply_tokens=10) == all_ids
    shorter = build_prompt(tokenizer, "Where?", CONVERSATION, context=shortest - 1, reply_tokens=10)
    assert shorter == build_prompt(tokenizer, "Where?", CONVERSATION[3:], context=1024, reply_tokens=10)
    assert shorter != all_ids


def test_a_long_reply_leaves_half_the_context_to_the_conversation(tokenizer):
    all_ids = build_prompt(tokenizer, "Where?", CONVERSATION, context=1024, reply_tokens=10)
    prompt = build_prompt(tokenizer, "Where?", CONVERSATION, context=2 * len(all_ids), reply_tokens=1000)
    assert prompt == all_ids


def test_a_question_may_fill_the_context_but_for_one_token(tokenizer):
    ids = question_to_ids(tokenizer, "why " * 50)
    prompt = build_prompt(tokenizer, "why " * 50, CONVERSATION, context=len(ids) + 1, reply_tokens=40)
    assert prompt == ids
    with pytest.raises(ValueError, match=f"has {len(ids)} tokens, and the model reads {len(ids)} at most"):
        build_prompt(tokenizer, "why " * 50, [], context=len(ids), reply_tokens=40)


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_nothing_is_not_asked(tokenizer, question):
    with pytest.raises(ValueError, match="write a question"):
        build_prompt(tokenizer, question, [], context=64, reply_tokens=8)
