"""Whether answers to rag questions cite the sources they should.

In SYNTH an answer quotes its source, as in `<ref name="source_2">total: 1,200</ref>`; the embedded sample's short
answers do not, but their reasoning names it, as in `source 2: painter`. A row is scored on the part of its own expected
text that cites: on the answer, else on the reasoning, else not at all.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from train.data.rows.synth import Row, reasoning_of
from train.evaluation.exam.answers import Answer
from train.evaluation.intervals import share_interval


# <source_2>, <ref name="source_2">, [source 2], Source 2
SOURCE = re.compile(r"\bsource[_ ]?(\d+)", re.IGNORECASE)
GIVEN = re.compile(r"<source_(\d+)>(.*?)</source_\1>", re.DOTALL)
QUOTE = re.compile(r"<ref name=\"?source_(\d+)\"?>(.*?)</ref>", re.DOTALL)


@dataclass(frozen=True)
class CitationCounts:
    """Counts over answers to questions whose expected text cites.

    Args:
        answers: how many.
        exact: those that cite just the sources that the expected text cites.
        citing: those that cite any.
        cited, existing: different sources cited in each answer, summed; those of them that were among the given ones.
        expected, recalled: sources that the expected texts cite, summed; those of them that the answers cite.
        quotes, true_quotes: quotations in `<ref name="source_N">` marks; those that stand in that source, word for word
            but for the space between words.
    """

    answers: int
    exact: int
    citing: int
    cited: int
    existing: int
    expected: int
    recalled: int
    quotes: int
    true_quotes: int

    def to_record(self) -> dict:
        """The counts, and as `*_share` the shares that can be made of them, `exact` and `citing` with intervals."""
        shares = {
            "exact": (self.exact, self.answers),
            "citing": (self.citing, self.answers),
            "precision": (self.existing, self.cited),
            "recall": (self.recalled, self.expected),
            "true_quotes": (self.true_quotes, self.quotes),
        }
        record: dict = asdict(self)
        record |= {f"{name}_share": part / whole if whole else None for name, (part, whole) in shares.items()}
        for name in ("exact", "citing"):
            record[f"{name}_interval"] = share_interval(*shares[name])
        return record


def expects_citations(row: Row) -> bool:
    """Whether it is a rag row whose answer, or else whose reasoning, names a source."""
    return row["exercise"] == "rag" and bool(_sources_in(_citing_parts(row)[0]))


def count_citations(questions: Sequence[Row], answers: Sequence[Answer]) -> CitationCounts | None:
    """Compare what each answer cites with what its question's row cites; `None` where no row cites anything."""
    marks = [_mark(row, answer) for row, answer in zip(questions, answers, strict=True) if expects_citations(row)]
    return CitationCounts(len(marks), *(sum(column) for column in zip(*marks, strict=True))) if marks else None


def _mark(row: Row, answer: Answer) -> tuple[int, ...]:
    """All counts of one answer but the first, in the order of `CitationCounts`."""
    expected_text, in_answer = _citing_parts(row)
    text = answer.final if in_answer else answer.reasoning
    given = {int(number): _words(source) for number, source in GIVEN.findall(row["constraints"])}
    expected, cited = _sources_in(expected_text), _sources_in(text)
    quotes = QUOTE.findall(text)
    true_quotes = sum(bool(_words(quote)) and _words(quote) in given.get(int(number), "") for number, quote in quotes)
    existing, recalled = len(cited & given.keys()), len(cited & expected)
    return (
        *(cited == expected, bool(cited), len(cited), existing),
        *(len(expected), recalled, len(quotes), true_quotes),
    )


def _citing_parts(row: Row) -> tuple[str, bool]:
    """The expected text that cites, and whether it is the answer's."""
    if SOURCE.search(row["synthetic_answer"]):
        return row["synthetic_answer"], True
    return reasoning_of(row), False


def _sources_in(text: str) -> set[int]:
    return {int(number) for number in SOURCE.findall(text)}


def _words(text: str) -> str:
    return " ".join(text.split())
