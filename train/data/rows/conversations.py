"""Rows of any accepted form as conversations, and the rules by which a row is changed or left out.

Accepted are SYNTH's columns; `messages` (or `conversations`, also with ShareGPT's `from` and `value`); and `prompt`
with `completion`, each a text or a list of messages. A text stands for one message.

What the assistant thought comes before its answer: SYNTH's reasoning, a message's `reasoning_content`, `reasoning` or
`thinking`, or a `<think>` part at the beginning of its content. Otherwise the message is the answer alone.

- Dropped: no assistant turn; a role that is not system, user or assistant; a system message after the first place;
  turns that do not alternate, beginning with the user's; a message without text (an assistant's with reasoning alone,
  too); SYNTH rows that pre-training would drop.
- Changed: user messages at the end, which nobody answers, are left off; texts are repaired and stripped as in
  pre-training.
"""

import re
from typing import Any

from train.data.rows.synth import BLANK, COLUMNS, Row, reason_to_drop, reasoning_of, repair_text, sources_of


Message = dict[str, str]

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
THINK = re.compile(r"\s*<think>(?P<reasoning>.*?)</think>(?P<answer>.*)", re.DOTALL)
UNANSWERED = "question without an answer left off"


class UnusableRowError(ValueError):
    """A row that is not trained on; the message says why, in words that can be counted."""


def is_synth(row: Row) -> bool:
    return "synthetic_answer" in row and "query" in row


def row_to_messages(row: Row) -> tuple[list[Message], list[str]]:
    """The conversation of a row, and words for each change in it.

    Messages have `role`, `content` and, where the assistant thinks, `reasoning_content`. They alternate, and the last
    is the assistant's.

    Raises:
        UnusableRowError: by one of the rules above.
    """
    if is_synth(row):
        return _synth_messages(row)
    found: list[str] = []
    messages = [_clean_message(message, found) for message in _raw_messages(row)]
    while messages and messages[-1]["role"] == "user":
        messages.pop()
        found.append(UNANSWERED)
    _check_turns(messages)
    return messages, sorted(set(found))


def _synth_messages(row: Row) -> tuple[list[Message], list[str]]:
    found: list[str] = []
    row = {column: repair_text(_text(row.get(column)), found) for column in COLUMNS}
    reason = reason_to_drop(row)
    if reason is not None:
        raise UnusableRowError(reason)
    messages = [{"role": "system", "content": sources}] if (sources := sources_of(row)) else []
    messages.append({"role": "user", "content": row["query"].strip(BLANK)})
    answer = {"role": "assistant", "content": row["synthetic_answer"].strip(BLANK)}
    if reasoning := reasoning_of(row):
        answer["reasoning_content"] = reasoning
    return [*messages, answer], sorted(set(found))


def _raw_messages(row: Row) -> list[Any]:
    for column in ("messages", "conversations"):
        if row.get(column) is not None:
            return _as_messages(row[column], None)
    if row.get("prompt") is not None and row.get("completion") is not None:
        return [*_as_messages(row["prompt"], "user"), *_as_messages(row["completion"], "assistant")]
    raise UnusableRowError("no messages")


def _as_messages(value: Any, role: str | None) -> list[Any]:
    """A list of messages; a text alone is the one message of a `role`."""
    if isinstance(value, str) and role is not None:
        return [{"role": role, "content": value}]
    if not isinstance(value, list):
        raise UnusableRowError("messages that are no list")
    return value


def _clean_message(message: Any, found: list[str]) -> Message:
    if not isinstance(message, dict):
        raise UnusableRowError("a message that is no mapping")
    role = message.get("role", message.get("from"))
    role = SHAREGPT_ROLES.get(str(role), str(role))
    if role not in ("system", "user", "assistant"):
        raise UnusableRowError(f"unknown role {role[:30]!r}")
    content = repair_text(_text(message.get("content", message.get("value"))), found)
    reasoning = next((message[key] for key in REASONING_KEYS if message.get(key) is not None), "")
    if role == "assistant" and (thought := THINK.fullmatch(content)) is not None:
        reasoning, content = thought["reasoning"], thought["answer"]
    cleaned = {"role": role, "content": content.strip(BLANK)}
    if not cleaned["content"]:
        raise UnusableRowError(f"empty message of the {role}")
    if role == "assistant" and (reasoning := repair_text(_text(reasoning), found).strip(BLANK)):
        cleaned["reasoning_content"] = reasoning
    return cleaned


def _text(content: Any) -> str:
    """A text, or the parts of one (`[{"type": "text", "text": ...}]`)."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts: list[Any] = [part.get("text") if isinstance(part, dict) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    if not isinstance(content, str):
        raise UnusableRowError("content that is no text")
    return content


def _check_turns(messages: list[Message]) -> None:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise UnusableRowError("no assistant turn")
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise UnusableRowError("system message after the first")
    if turns != ["user", "assistant"] * (len(turns) // 2):
        raise UnusableRowError("turns that do not alternate")
