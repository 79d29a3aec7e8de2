"""Reasoning and answer are told apart at any point of the writing, and nothing that was shown is taken back."""

import pytest

from hub_card.space.chat.messages import messages_to_turns, note_to_message, question_to_message, reply_to_messages
from hub_card.space.chat.prompt import Turn
from hub_card.space.chat.reply import Reply, split_reply


REASONING = "Reasoning:\nA novel.\n\nAusten wrote it.\n\nA: Jane\n\nA: no more"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (REASONING, Reply("A novel.\n\nAusten wrote it.", "Jane\n\nA: no more")),
        ("A: Jane", Reply("", "Jane")),
        ("Reasoning:\n\n\nA: Jane", Reply("", "Jane")),
        ("Reasoning:\nA novel", Reply("A novel", None)),
        ("once upon a time", Reply("", "once upon a time")),
        ("Reasoning is hard", Reply("", "Reasoning is hard")),
        ("A:", Reply("", None)),
        ("", Reply("", None)),
    ],
)
def test_a_text_is_taken_apart(text, reply):
    assert split_reply(text) == reply


@pytest.mark.parametrize("text", [REASONING, "A: Jane Austen, in 1815", "once upon a time"])
def test_what_is_shown_only_grows(text):
    whole = split_reply(text)
    for length in range(len(text)):
        part = split_reply(text[:length])
        assert whole.reasoning.startswith(part.reasoning)
        assert part.answer is None or whole.answer.startswith(part.answer)


def as_the_page_returns(message: dict) -> dict:
    parts = [{"type": "text", "text": message["content"]}]
    return {"metadata": None, "options": None, **message, "content": parts}


def test_messages_become_turns_again():
    conversation = [
        question_to_message("Who wrote Emma?"),
        *reply_to_messages(Reply("A novel.", "Jane Austen"), ["The text breaks off."]),
        question_to_message("When?"),
        *reply_to_messages(Reply("", "In 1815"), []),
        question_to_message("Stopped before the answer"),
        *reply_to_messages(Reply("Well", None), []),
        note_to_message("Stopped."),
    ]
    turns = [Turn("Who wrote Emma?", "A novel.", "Jane Austen"), Turn("When?", "", "In 1815")]
    assert messages_to_turns(conversation) == turns
    assert messages_to_turns([as_the_page_returns(message) for message in conversation]) == turns
