"""Answers that a machine can verify, and the rewards for them.

An answer's value is the last `\\boxed{...}` of its text; else the words after the last "answer is", up to the end of
the sentence; else all of it. A full stop at the end is left off. Two values are compared so:

- numbers are compared by value, exactly: "5,000" is "5000.0", "1/2" is "0.5", "$20" and "20%" are "20". A number with a
  unit is a text;
- dates with a year are compared as dates: "3 May 1999", "May 3rd, 1999", "1999-05-03";
- where the question of an mcq row has lettered options, one is named by its letter ("D", "(d)", "D."), by its text, or
  by both; a letter with another option's text names none;
- anything else is text: case and runs of space do not count, everything else does.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from fractions import Fraction

from train.data.rows.synth import Row
from train.evaluation.exam.answers import Answer


# Exercises whose question has one answer; a row that names none is taken as one of them.
VERIFIABLE_EXERCISES = ("math exercise", "math mcq", "mcq", "rag", "memorization")
MOST_WORDS = 6  # of an answer that is neither number, date nor option: a longer one can be put in other words
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
STATED = re.compile(r"answer is:?\s+(.+?)(?=\.?\s*(?:\n|$)|\.\s)", re.IGNORECASE)
NUMBER = re.compile(r"(?P<number>[-+]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d+)?)(?:/(?P<divisor>\d+))?")
ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
DATE_FORMATS = ("%Y-%m-%d", "%d %B %Y", "%B %d %Y", "%B %d, %Y")
OPTION = re.compile(r"(?:^|(?<=\s))\(?([A-Za-z])[).]\s+(.+?)(?=\s+\(?[A-Za-z][).]\s|\s*$)", re.DOTALL)
LETTERED = re.compile(r"\(?([A-Za-z])(?:[).:]+\s*(?P<text>.*))?", re.DOTALL)

Options = dict[str, str]


def why_not_verifiable(row: Row) -> str | None:
    """The reason why answers to a usable SYNTH row cannot be verified, in words that can be counted, or `None`."""
    if row.get("exercise") not in (None, *VERIFIABLE_EXERCISES):
        return "answer cannot be verified: exercise without a single one"
    kind, value = value_of(row["synthetic_answer"], options_of(row))
    if kind == "text" and len(str(value).split()) > MOST_WORDS:
        return f"answer cannot be verified: over {MOST_WORDS} words"
    return None


def is_right(answer: str, row: Row) -> bool:
    """Whether an answer (without reasoning) to a row's question is the expected one."""
    options = options_of(row)
    return bool(answer.strip()) and value_of(answer, options) == value_of(row["synthetic_answer"], options)


def options_of(row: Row) -> Options:
    """The options of an mcq row by their letters, a, b, ...; none where they are not lettered."""
    if "mcq" not in (row.get("exercise") or ""):
        return {}
    found = [(letter.lower(), _plain(text)) for letter, text in OPTION.findall(row["query"])]
    expected = [chr(ord("a") + number) for number in range(len(found))]
    return dict(found) if len(found) > 1 and [letter for letter, _ in found] == expected else {}


def value_of(answer: str, options: Options) -> tuple[str, object]:
    """The meaning of an answer: its kind ("option", "number", "date" or "text") and its value."""
    stated = BOXED.findall(answer) or STATED.findall(answer) or [answer]
    text = _plain(stated[-1])
    if options and (letter := _option(text, options)) is not None:
        return "option", letter
    if (number := _number(text)) is not None:
        return "number", number
    if (date := _date(text)) is not None:
        return "date", date
    return "text", text


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()


def _option(text: str, options: Options) -> str | None:
    match = LETTERED.fullmatch(text)
    if match is not None and match[1] in options and (match["text"] or options[match[1]]) == options[match[1]]:
        return match[1]
    return next((letter for letter, option in options.items() if option == text), None)


def _number(text: str) -> Fraction | None:
    match = NUMBER.fullmatch(re.sub(r"[$€£%\s]", "", text).replace("−", "-"))
    if match is None:
        return None
    divisor = int(match["divisor"] or 1)
    return Fraction(match["number"].replace(",", "")) / divisor if divisor else None


def _date(text: str) -> str | None:
    for form in DATE_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(ORDINAL.sub("", text), form).date().isoformat()
    return None


def build_rewards(end_of_text: int) -> list[Callable[..., list[float]]]:
    """The rewards in TRL's form. `accuracy_reward`: 1 for a text that ends in the expected answer, else 0; a text that
    was cut off inside its reasoning has none. `format_reward`: 1 for reasoning or none, one answer, and then the end.
    """

    def read(completions: list[str], completion_ids: list[list[int]]) -> list[Answer]:
        pairs = zip(completions, completion_ids, strict=True)
        return [Answer(text, ids[-1:] == [end_of_text]) for text, ids in pairs]

    def accuracy_reward(completions, completion_ids, exercise, query, synthetic_answer, **kwargs) -> list[float]:
        columns = zip(read(completions, completion_ids), exercise, query, synthetic_answer, strict=True)
        return [
            float(is_right(answer.final, {"exercise": kind, "query": question, "synthetic_answer": expected}))
            for answer, kind, question, expected in columns
        ]

    def format_reward(completions, completion_ids, **kwargs) -> list[float]:
        return [float(answer.well_formed) for answer in read(completions, completion_ids)]

    return [accuracy_reward, format_reward]
