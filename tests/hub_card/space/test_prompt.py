"""Prompts are the ids of the beginning of what the model was trained on."""

import pytest

from hub_card.space.chat.prompt import Turn, build_prompt, question_to_ids
from train.data.rows.synth import question_to_ids as question_to_training_ids


QUESTIONS = ["Why?", "  Why ?\n", "What is 2 + 2?\n\nThink.", "a<|endoftext|>b", "Wer schrieb „Emma“?", "🤖\r\nno", "A"]
TURNS = [Turn("Who wrote Emma?", "Emma is by Austen.", "Jane Austen"), Turn("When?", "", "In 1815")]


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_has_the_ids_of_training(tokenizer, question):
    cleaned = question.strip().replace("\r\n", "\n")
    assert question_to_ids(tokenizer, question) == question_to_training_ids(f"Q: {cleaned}", tokenizer)
    assert tokenizer.eos_token_id not in question_to_ids(tokenizer, question)


def test_half_a_surrogate_pair_is_asked_without_it(tokenizer):
    assert tokenizer.decode(question_to_ids(tokenizer, "a\ud800b")) == "Q: a?b\n\n"


def test_a_conversation_has_the_ids_of_the_chat_template(tokenizer):
    messages = []
    for turn in TURNS:
        messages.append({"role": "user", "content": turn.question})
        reasoning = {"reasoning_content": turn.reasoning} if turn.reasoning else {}
        messages.append({"role": "assistant", "content": turn.answer, **reasoning})
    messages += [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In London"}]
    whole = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    prompt = build_prompt(tokenizer, "Where?", TURNS, context=1024, reply_tokens=64)
    assert prompt.forgotten_turns == 0
    assert whole[: len(prompt.ids)] == prompt.ids
    assert tokenizer.decode(whole[len(prompt.ids) :]).startswith("A: In London")


def test_the_oldest_turns_go_where_the_context_is_short(tokenizer):
    all_ids = build_prompt(tokenizer, "Where?", TURNS, context=1024, reply_tokens=10).ids
    shortest = len(all_ids) + 10
    assert build_prompt(tokenizer, "Where?", TURNS, context=shortest, reply_tokens=10).ids == all_ids
    shorter = build_prompt(tokenizer, "Where?", TURNS, context=shortest - 1, reply_tokens=10)
    assert shorter.forgotten_turns == 1
    assert shorter.ids == build_prompt(tokenizer, "Where?", TURNS[1:], context=1024, reply_tokens=10).ids


def test_a_long_reply_leaves_half_the_context_to_the_conversation(tokenizer):
    all_ids = build_prompt(tokenizer, "Where?", TURNS, context=1024, reply_tokens=10).ids
    prompt = build_prompt(tokenizer, "Where?", TURNS, context=2 * len(all_ids), reply_tokens=1000)
    assert prompt.ids == all_ids


def test_a_question_may_fill_the_context_but_for_one_token(tokenizer):
    ids = question_to_ids(tokenizer, "why " * 50)
    prompt = build_prompt(tokenizer, "why " * 50, TURNS, context=len(ids) + 1, reply_tokens=40)
    assert (prompt.ids, prompt.forgotten_turns) == (ids, 2)
    with pytest.raises(ValueError, match=f"takes {len(ids)} tokens, but the model sees {len(ids)} at most"):
        build_prompt(tokenizer, "why " * 50, [], context=len(ids), reply_tokens=40)


@pytest.mark.parametrize("question", ["", " \n\t"])
def test_nothing_is_not_asked(tokenizer, question):
    with pytest.raises(ValueError, match="write a question"):
        build_prompt(tokenizer, question, [], context=64, reply_tokens=8)
