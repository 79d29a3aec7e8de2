"""SYNTH's rows: which can be used, the text that they become, and which part they belong to.

SYNTH (https://huggingface.co/datasets/PleIAs/SYNTH) holds synthetic questions, each grown from a seed article, with the
reasoning that leads to the answer.
"""

import hashlib
import re
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from train.data.files.chunk import Columns


# The columns that are read; SYNTH has more.
COLUMNS = (
    "language",
    "exercise",
    "query",
    "query_seed_url",
    "additional_seed_url",
    "constraints",
    "synthetic_reasoning",
    "synthetic_answer",
)
# Columns that a source lacks are null.
SYNTH_COLUMNS = Columns(text=COLUMNS, forms=(("query", "synthetic_answer"),))
TEXT_COLUMNS = ("query", "constraints", "synthetic_reasoning", "synthetic_answer")
# What SYNTH's pipeline writes into `constraints` where it gave up on a row.
FAILED_GENERATION = "result:Failed after maximum attempts"
# What stands in a column of text where some tool has written out a null.
WRITTEN_NULLS = frozenset(("None", "null", "NULL", "nan", "NaN", "<NA>"))
# Space of any kind, and what shows nothing: control and zero-width characters, the byte order mark.
BLANK = "".join(map(chr, (*range(0x20), 0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF)))
BLANK += "".join(character for character in map(chr, range(0x3001)) if character.isspace())
# One address of several. Commas and quotes are part of it (".../Paris,_Texas", ".../Ohm's_law"), but for those that
# stand before space, another address, or the end.
LINK = re.compile(r"https?://\S+?(?=[,;'\"\[\]|]*(?:\s|$)|[,;'\"\[\]|]+https?://)")

Row = dict[str, Any]
Split = Literal["train", "validation"]


def repair(row: Row) -> list[str]:
    """Change, in place, what would teach a model the traces of broken tools; returns what was found.

    Line ends become LF, NUL characters go, and halves of surrogate pairs (which have no UTF-8) become U+FFFD.
    """
    found: list[str] = []
    for column in TEXT_COLUMNS:
        if row[column] is not None:
            row[column] = repair_text(row[column], found)
    return sorted(set(found))


def repair_text(text: str, found: list[str]) -> str:
    """One text, repaired as `repair` does; what was wrong with it is added to `found`."""
    if text.isascii() and "\r" not in text and "\0" not in text:
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        found.append("CR line ends")
    if "\0" in text:
        text = text.replace("\0", "")
        found.append("NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found.append("lone surrogates")
    return text


def reason_to_drop(row: Row) -> str | None:
    """Why a row is not trained on, in a few words, or `None` if it is."""
    if not _stripped(row["query"]):
        return "no question"
    if not _stripped(row["synthetic_answer"]):
        return "no answer"
    if not WRITTEN_NULLS.isdisjoint((_stripped(row["query"]), _stripped(row["synthetic_answer"]))):
        return "question or answer is a written null"
    if FAILED_GENERATION in _stripped(row["constraints"]):
        return "failed generation"
    if row["exercise"] == "rag" and not sources_of(row):
        return "rag without sources"  # the answer cites what the model would not see
    return None


def row_to_text(row: Row) -> str:
    """The training text of a usable row, without the end-of-text token.

    `Q: {query}`, `Reasoning:` (left out where there is none) and `A: {answer}`, blank lines between; a rag row's
    sources stand before the question, since the answer quotes them.
    """
    reasoning = reasoning_of(row)
    reasoning_part = f"Reasoning:\n{reasoning}\n\n" if reasoning else ""
    return f"{row_to_question(row)}\n\n{reasoning_part}A: {_stripped(row['synthetic_answer'])}"


def reasoning_of(row: Row) -> str:
    """The reasoning, empty where there is none."""
    return _unless_null(row["synthetic_reasoning"])


def row_to_question(row: Row) -> str:
    """The part of the text that is given when the model is asked: sources and question."""
    sources = sources_of(row)
    return f"{sources}\n\nQ: {_stripped(row['query'])}" if sources else f"Q: {_stripped(row['query'])}"


def question_to_ids(question: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a question with the blank line after it, as they stand in training.

    GPT-2 encodes a blank line at the end of a string as one token and before more text as two, so the ids of the string
    are not the ids of the text's beginning: a model asked with them sees a token that it never saw there. A token that
    runs over the blank line's end is left for the model to write. The question is repaired as rows are: what a user
    types may hold stray bytes.
    """
    text = f"{repair_text(question, [])}\n\n"
    encoded = tokenizer(f"{text}A", split_special_tokens=True, return_offsets_mapping=True)
    return [
        token
        for token, (_, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if end <= len(text)
    ]


def split_answer(text: str) -> tuple[str, str]:
    """A text that a model wrote, cut before its answer: behind the last `A: ` that begins a line.

    Without such a mark all of the text stands before the answer, and the answer is empty.
    """
    before, mark, answer = f"\n{text}".rpartition("\nA: ")
    return (f"{before}{mark}"[1:], answer) if mark else (text, "")


def seed_article(row: Row) -> str:
    """The seed of a row: its seed article's address, or its question where it has none."""
    return _unless_null(row["query_seed_url"]) or _stripped(row["query"])


def article_key(article: str, salt: int = 0) -> bytes:
    """Eight bytes that stand for an article, evenly spread; another `salt` spreads them anew."""
    return hashlib.blake2b(f"{salt}:{article}".encode("utf-8", "surrogatepass"), digest_size=8).digest()


def articles(row: Row) -> list[str]:
    """The seed article, and those that the row links to (`additional_seed_url`)."""
    links = _unless_null(row.get("additional_seed_url"))
    return [seed_article(row), *(LINK.findall(links) or ([links] if links.strip("[]") else []))]


def part_of(articles: list[str], validation_fraction: float, split_seed: int) -> Split | None:
    """The part of a row that touches these articles, or `None` where they are of both parts and it belongs to neither.

    Decided by a hash of the articles, so that all questions that touch one fall on the same side, whatever the order of
    rows, the shard, or the process that reads them.
    """
    limit = validation_fraction * 2**64
    validation = {int.from_bytes(article_key(article, split_seed), "big") < limit for article in articles}
    if len(validation) > 1:
        return None
    return "validation" if validation.pop() else "train"


def split_of(row: Row, validation_fraction: float, split_seed: int) -> Split | None:
    """The part that one of SYNTH's rows belongs to, or `None`."""
    return part_of(articles(row), validation_fraction, split_seed)


def sources_of(row: Row) -> str:
    """The `<source_N>` blocks of a rag row, else the empty string."""
    constraints = _stripped(row["constraints"])
    return constraints if row["exercise"] == "rag" and "<source_" in constraints else ""


def _unless_null(text: str | None) -> str:
    stripped = _stripped(text)
    return "" if stripped in WRITTEN_NULLS else stripped


def _stripped(text: str | None) -> str:
    return "" if text is None else text.strip(BLANK)
