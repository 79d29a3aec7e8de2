"""Rows to conversations: the accepted forms, and the rules for what is changed or left out."""

import pytest

from train.data.rows.conversations import UNANSWERED, UnusableRowError, row_to_messages
from train.data.rows.synth import row_to_text


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


TURNS = [user("Why?"), assistant("So.")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": None, "conversations": TURNS},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"prompt": "Why?", "completion": "So."},
        {"prompt": [user("Why?")], "completion": [assistant("So.")]},
        {"prompt": [user("Why?")], "completion": "So."},
        {"messages": [user([{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?"}]), assistant("So.")]},
        {"messages": [user(" Why?\u200b\n"), assistant("\tSo. ")]},
    ],
    ids=lambda row: " ".join(row),
)
def test_every_form_becomes_the_same_conversation(row):
    assert row_to_messages(row) == (TURNS, [])


@pytest.mark.parametrize(
    "answer",
    [
        assistant("So.", reasoning_content="It is."),
        assistant("So.", reasoning="It is."),
        assistant("So.", thinking=" It is.\n"),
        assistant("<think>\nIt is.\n</think>\n\nSo."),
    ],
)
def test_reasoning_comes_from_its_keys_or_from_a_think_part(answer):
    messages, _ = row_to_messages({"messages": [user("Why?"), answer]})
    assert messages[-1] == assistant("So.", reasoning_content="It is.")


def test_a_synth_row_has_its_reasoning_and_its_sources(row):
    messages, _ = row_to_messages(row(1))
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["reasoning_content"] == "Counting on from 1 gives 2."
    # A question that holds what stands before a question is not taken apart there.
    rag = row(1, exercise="rag", constraints="<source_1>One</source_1>", query="Who?\n\nQ: And who?")
    messages, _ = row_to_messages(rag)
    assert messages[0] == {"role": "system", "content": "<source_1>One</source_1>"}
    assert messages[1] == user("Who?\n\nQ: And who?")
    assert row_to_text(rag).startswith(f"{messages[0]['content']}\n\nQ: {messages[1]['content']}\n\n")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [user("Why?")]}, "no assistant turn"),
        ({"messages": []}, "no assistant turn"),
        ({"messages": [user("Why?"), {"role": "tool", "content": "x"}]}, "unknown role 'tool'"),
        ({"messages": [user("Why?"), {"content": "x"}]}, "unknown role 'None'"),
        ({"messages": [*TURNS, {"role": "system", "content": "x"}, *TURNS]}, "system message after the first"),
        ({"messages": [assistant("So.")]}, "turns that do not alternate"),
        ({"messages": [user("Why?"), *TURNS]}, "turns that do not alternate"),
        ({"messages": [*TURNS, assistant("So.")]}, "turns that do not alternate"),
        ({"messages": [user("Why?"), assistant(" \n")]}, "empty message of the assistant"),
        ({"messages": [user("Why?"), assistant(None)]}, "empty message of the assistant"),
        ({"messages": [user("Why?"), assistant("<think>Hm.</think>")]}, "empty message of the assistant"),
        ({"messages": [user(""), assistant("So.")]}, "empty message of the user"),
        ({"messages": [user(3), assistant("So.")]}, "content that is no text"),
        ({"messages": [user([{"type": "image"}]), assistant("So.")]}, "content that is no text"),
        ({"messages": ["Why?", "So."]}, "a message that is no mapping"),
        ({"messages": "Why?"}, "messages that are no list"),
        ({"messages": None}, "no messages"),
        ({"prompt": "Why?", "completion": None}, "no messages"),
        ({"prompt": "Why?", "completion": ""}, "empty message of the assistant"),
    ],
)
def test_what_cannot_be_used_is_dropped_for_a_reason(row, reason):
    with pytest.raises(UnusableRowError) as refusal:
        row_to_messages(row)
    assert str(refusal.value) == reason


def test_synth_rows_are_dropped_as_in_pre_training(row):
    for changes, reason in (
        ({"query": " "}, "no question"),
        ({"synthetic_answer": None}, "no answer"),
        ({"exercise": "rag"}, "rag without sources"),
    ):
        with pytest.raises(UnusableRowError, match=reason):
            row_to_messages(row(1, **changes))


def test_questions_that_nobody_answers_are_left_off():
    assert row_to_messages({"messages": [*TURNS, user("And?")]}) == (TURNS, [UNANSWERED])


def test_texts_are_repaired():
    messages, changes = row_to_messages({"prompt": "Why\r\n\0?", "completion": "So\ud800."})
    assert [message["content"] for message in messages] == ["Why\n?", "So\ufffd."]
    assert changes == ["CR line ends", "NUL characters", "lone surrogates"]
