"""The practice of post-training: rows of `practice.parquet` and `practice_exam.parquet`, in SYNTH's full schema.

Questions over sources, as in the sample, with other people, towns and trades put together, and with answers but no
reasoning: what a model practises on that has been shown how to answer, but too few examples to have got the rule. The
exam is the sample's, with as many more of these questions as tell a gain from chance. Deterministic; no question has
the sources of another's, or of the sample's.
"""

import itertools
import random
import re

from train.data.sample.copying import iterate_rag_rows
from train.data.sample.generate import build_sample
from train.data.sample.rows import leave_out_reasoning


SEED = 20240301
PRACTICE_ROWS, EXAM_ROWS = 400, 176  # with the sample's 24, the exam then has 200 such questions
SOURCE_TAGS = re.compile(r"</?source_\d+>")


def sources_of(row: dict) -> frozenset[str]:
    """The texts of the sources of a row, without order."""
    return frozenset(SOURCE_TAGS.sub("", line) for line in row["constraints"].splitlines())


def build_practice() -> tuple[list[dict], list[dict]]:
    """Practice rows and exam rows."""
    train, exam = build_sample()
    taken = {sources_of(row) for row in (*train, *exam) if row["exercise"] == "rag"}
    fresh = (row for row in iterate_rag_rows(random.Random(SEED)) if sources_of(row) not in taken)
    rows = list(itertools.islice(fresh, PRACTICE_ROWS + EXAM_ROWS))
    for number, row in enumerate(rows):
        row["query_seed_url"] = f"sample://practice/{number:04d}"
        leave_out_reasoning(row)
    practice, practice_exam = rows[:PRACTICE_ROWS], [*exam, *rows[PRACTICE_ROWS:]]
    for number, row in enumerate(practice + practice_exam):
        row["synth_id"] = f"practice-{number:06d}"
    return practice, practice_exam
