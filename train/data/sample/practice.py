"""The practice of post-training: rows of `practice.parquet` and `practice_exam.parquet`, in SYNTH's full schema.

Questions over sources, as in the sample, but about people whom it does not name, and with answers but no reasoning:
what a model practises on that has got the rule for the names that it knows. The exam is the sample's, with more of
these questions, as many as tell a gain from chance. Deterministic; no question has the sources of another's.
"""

import itertools
import random
import re

from train.data.sample.copying import iterate_rag_rows
from train.data.sample.generate import build_sample
from train.data.sample.rows import leave_out_reasoning


SEED = 20240301
PRACTICE_ROWS, EXAM_ROWS = 400, 160  # with the sample's 40, the exam then has 200 questions over sources
# The sample's tokenizer has none of them whole, but each in two tokens.
PEOPLE = (
    "Ada", "Bob", "Cora", "Dan", "Dora", "Gail", "Gina", "Ian", "Ivan", "Jim", "Joe", "Ken",
    "Kim", "Lara", "Lily", "Maria", "Mia", "Ned", "Nina", "Pia", "Roy", "Sam", "Ted", "Tina",
)  # fmt: skip
SOURCE_TAGS = re.compile(r"</?source_\d+>")


def sources_of(row: dict) -> frozenset[str]:
    """The texts of the sources of a row, without order."""
    return frozenset(SOURCE_TAGS.sub("", line) for line in row["constraints"].splitlines())


def build_practice() -> tuple[list[dict], list[dict]]:
    """Practice rows and exam rows."""
    _, exam = build_sample()
    rows = list(itertools.islice(iterate_rag_rows(random.Random(SEED), PEOPLE), PRACTICE_ROWS + EXAM_ROWS))
    for number, row in enumerate(rows):
        row["query_seed_url"] = f"sample://practice/{number:04d}"
        leave_out_reasoning(row)
    practice, practice_exam = rows[:PRACTICE_ROWS], [*exam, *rows[PRACTICE_ROWS:]]
    for number, row in enumerate(practice + practice_exam):
        row["synth_id"] = f"practice-{number:06d}"
    return practice, practice_exam
