"""Between what the model reads and writes and what the page shows: messages of Gradio's chatbot.

A reply is up to three kinds of messages: the reasoning, which folds; the answer; and notes on how the reply came about.
"""

from typing import Any

from .prompt import Turn
from .reply import Reply


REASONING_TITLE = "Reasoning"
NOTE_ID = "note"

Message = dict[str, Any]


def question_to_message(question: str) -> Message:
    return {"role": "user", "content": question}


def reply_to_messages(reply: Reply, notes: list[str]) -> list[Message]:
    messages: list[Message] = []
    if reply.reasoning:
        messages.append({"role": "assistant", "content": reply.reasoning, "metadata": {"title": REASONING_TITLE}})
    if reply.answer:
        messages.append({"role": "assistant", "content": reply.answer})
    return messages + [note_to_message(note) for note in notes]


def note_to_message(note: str) -> Message:
    """A message that the model did not write."""
    return {"role": "assistant", "content": f"({note})", "metadata": {"id": NOTE_ID}}


def messages_to_turns(messages: list[Message]) -> list[Turn]:
    """The questions that got an answer, without the notes; oldest first."""
    turns: list[Turn] = []
    question = reasoning = ""
    for message in messages:
        text, metadata = text_of(message), message.get("metadata") or {}
        if message["role"] == "user":
            question, reasoning = text, ""
        elif metadata.get("title") == REASONING_TITLE:
            reasoning = text
        elif metadata.get("id") != NOTE_ID:
            turns.append(Turn(question, reasoning, text))
    return turns


def text_of(message: Message) -> str:
    """A message's text: it is a string, or, as the page hands it back, a list of parts."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
