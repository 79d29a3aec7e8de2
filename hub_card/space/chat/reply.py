"""What the model wrote, taken apart into reasoning and answer, also while it is still writing."""

from dataclasses import dataclass


REASONING_MARK = "Reasoning:\n"
ANSWER_MARK = "A: "
BREAK = "\n\n"


@dataclass(frozen=True)
class Reply:
    """
    Args:
        reasoning: empty where there is none (yet).
        answer: `None` while there is none (yet).
    """

    reasoning: str
    answer: str | None


def split_reply(text: str) -> Reply:
    """Reasoning and answer in a text that may break off anywhere.

    A text that has not the form of training rows is an answer as a whole: such is the writing of a model that has not
    learnt the form, and hiding it would hide that. A mark that is only begun shows nothing.
    """
    text = text.lstrip()
    if text.startswith(REASONING_MARK):
        reasoning, mark, answer = text[len(REASONING_MARK) :].partition(BREAK + ANSWER_MARK)
        if mark:
            return Reply(reasoning.strip(), answer.strip())
        return Reply(_without_begun_mark(reasoning).strip(), None)
    if text.startswith(ANSWER_MARK):
        return Reply("", text[len(ANSWER_MARK) :].strip())
    if REASONING_MARK.startswith(text) or ANSWER_MARK.startswith(text):
        return Reply("", None)
    return Reply("", text.rstrip())


def _without_begun_mark(text: str) -> str:
    """The text without the first characters of an answer's mark at its end, which would show for a moment."""
    mark = BREAK + ANSWER_MARK
    for length in range(len(mark) - 1, len(BREAK), -1):
        if text.endswith(mark[:length]):
            return text[:-length]
    return text
