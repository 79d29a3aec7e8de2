"""SYNTH's rows: which can be used, the text that they become, and which are held out.

SYNTH (https://huggingface.co/datasets/PleIAs/SYNTH) holds synthetic questions, each grown from a seed article, with the
reasoning that leads to the answer. Every source of rows for this project has its columns.
"""

import hashlib
from typing import Any

from transformers import PreTrainedTokenizerBase


# The columns that are read; SYNTH has more.
COLUMNS = (
    "language",
    "exercise",
    "query",
    "query_seed_url",
    "constraints",
    "synthetic_reasoning",
    "synthetic_answer",
)
# What SYNTH's pipeline writes into `constraints` where it gave up on a row.
FAILED_GENERATION = "result:Failed after maximum attempts"

Row = dict[str, Any]


def reason_to_drop(row: Row, languages: list[str] | None = None, exercises: list[str] | None = None) -> str | None:
    """Why a row is not trained on, in a few words, or `None` if it is.

    Args:
        row: one row with SYNTH's columns; any text may be `None`.
        languages: keep only these codes ("en", "fr", ...); `None` keeps all.
        exercises: keep only these; `None` keeps all.
    """
    if languages is not None and row["language"] not in languages:
        return "other language"
    if exercises is not None and row["exercise"] not in exercises:
        return "other exercise"
    if not _stripped(row["query"]):
        return "no question"
    if not _stripped(row["synthetic_answer"]):
        return "no answer"
    if FAILED_GENERATION in _stripped(row["constraints"]):
        return "failed generation"
    if row["exercise"] == "rag" and not _sources(row):
        return "rag without sources"  # the answer cites what the model would not see
    return None


def row_to_text(row: Row) -> str:
    """The training text of a usable row, without the end-of-text token.

    `Q: {query}`, `Reasoning:` (left out where there is none) and `A: {answer}`, blank lines between; a rag row's
    sources stand before the question, since the answer quotes them.
    """
    reasoning = _stripped(row["synthetic_reasoning"])
    reasoning_part = f"Reasoning:\n{reasoning}\n\n" if reasoning else ""
    return f"{row_to_question(row)}\n\n{reasoning_part}A: {_stripped(row['synthetic_answer'])}"


def row_to_question(row: Row) -> str:
    """The part of the text that is given when the model is asked: sources and question."""
    sources = _sources(row)
    return f"{sources}\n\nQ: {_stripped(row['query'])}" if sources else f"Q: {_stripped(row['query'])}"


def question_to_ids(question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a question with the blank line after it, as they stand in training.

    GPT-2 encodes a blank line at the end of a string as one token and before more text as two, so the ids of the string
    are not the ids of the text's beginning: a model asked with them sees a token that it never saw there.
    """
    continuation = "A"
    ids = tokenizer(f"{question}\n\n{continuation}", split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids[-1:]) == continuation
    return ids[:-1]


def text_to_answer(text: str) -> str:
    """The answer in a text that the model wrote: what follows its last `A: `; empty if there is none."""
    _, mark, answer = f"\n{text}".rpartition("\nA: ")
    return answer.strip() if mark else ""


def seed_article(row: Row) -> str:
    """What a row was grown from: its seed article's address, or its question where it has none."""
    return _stripped(row["query_seed_url"]) or _stripped(row["query"])


def article_key(article: str, salt: int = 0) -> bytes:
    """Eight bytes that stand for an article, evenly spread; another `salt` spreads them anew."""
    return hashlib.blake2b(f"{salt}:{article}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def is_validation_row(row: Row, validation_fraction: float, split_seed: int) -> bool:
    """Whether a row belongs to the held-out part.

    Decided by a hash of the seed article, so that all questions grown from one article fall on the same side, whatever
    the order of rows, the shard, or the process that reads them.
    """
    return int.from_bytes(article_key(seed_article(row), split_seed), "big") < validation_fraction * 2**64


def _sources(row: Row) -> str:
    """The `<source_N>` blocks of a rag row, else the empty string."""
    constraints = _stripped(row["constraints"])
    return constraints if row["exercise"] == "rag" and "<source_" in constraints else ""


def _stripped(text: str | None) -> str:
    return "" if text is None else text.strip()
