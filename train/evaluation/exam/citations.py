"""Whether answers to rag questions cite the sources they should.

In SYNTH an answer quotes its source, as in `<ref name="source_2">total: 1,200</ref>`; in the embedded sample the
reasoning names it, as in `source 2: painter`. A row is scored on the part of its own expected text that cites: on the
answer, else on the reasoning, else not at all.
"""

import re
from collections import Counter

from train.data.rows.synth import Row, reasoning_of
from train.evaluation.exam.answers import Answer
from train.evaluation.statistics import share_interval


# <source_2>, <ref name="source_2">, [source 2], Source 2
SOURCE = re.compile(r"\bsource[_ ]?(\d+)", re.IGNORECASE)
GIVEN = re.compile(r"<source_(\d+)>(.*?)</source_\1>", re.DOTALL)
QUOTE = re.compile(r"<ref name=\"?source_(\d+)\"?>(.*?)</ref>", re.DOTALL)
# Each share by its numerator and denominator
SHARES = {
    "exact": ("exact", "answers"),
    "citing": ("citing", "answers"),
    "precision": ("existing", "cited"),
    "recall": ("recalled", "expected"),
    "true_quotes": ("true_quotes", "quotes"),
}


def expects_citations(row: Row) -> bool:
    """Whether it is a rag row whose answer, or else whose reasoning, names a source."""
    return row["exercise"] == "rag" and bool(_expected_sources(row))


def count_citations(questions: list[Row], answers: list[Answer]) -> dict | None:
    """Compare the citations of each answer with those of its question's row.

    Returns:
        `citations` of evaluation.json; `None` where no row cites anything. It counts, over all answers,

        - `answers`, and of them `citing` (any source) and `exact` (the expected sources and no others);
        - `cited`, the different sources that each answer cites, and of them `existing`, which its question gave;
        - `expected`, the sources that the rows' own texts cite, and of them `recalled`, which the answer cites, too;
        - `quotes`, quotations in `<ref name="source_N">` marks, and of them `true_quotes`, which that source has word
          for word (space may differ);

        and has the shares that SHARES names, as `*_share` (`None` where there is nothing to take a share of), with
        `exact_interval` and `citing_interval`.
    """
    counts: Counter[str] = Counter()
    for row, answer in zip(questions, answers, strict=True):
        if expects_citations(row):
            counts.update(_mark(row, answer))
    if not counts:
        return None
    record: dict = dict(counts)
    for name, (part, whole) in SHARES.items():
        record[f"{name}_share"] = counts[part] / counts[whole] if counts[whole] else None
    for name in ("exact", "citing"):
        record[f"{name}_interval"] = share_interval(counts[name], counts["answers"])
    return record


def _mark(row: Row, answer: Answer) -> dict[str, int]:
    in_answer = SOURCE.search(row["synthetic_answer"]) is not None
    text = answer.final if in_answer else answer.reasoning
    given = {int(number): _words(source) for number, source in GIVEN.findall(row["constraints"])}
    expected, cited = _expected_sources(row), _sources_in(text)
    quotes = [(int(number), _words(quote)) for number, quote in QUOTE.findall(text)]
    return {
        "answers": 1,
        "exact": int(cited == expected),
        "citing": int(bool(cited)),
        "cited": len(cited),
        "existing": len(cited & given.keys()),
        "expected": len(expected),
        "recalled": len(cited & expected),
        "quotes": len(quotes),
        "true_quotes": sum(bool(quote) and quote in given.get(number, "") for number, quote in quotes),
    }


def _expected_sources(row: Row) -> set[int]:
    return _sources_in(row["synthetic_answer"]) or _sources_in(reasoning_of(row))


def _sources_in(text: str) -> set[int]:
    return {int(number) for number in SOURCE.findall(text)}


def _words(text: str) -> str:
    return " ".join(text.split())
