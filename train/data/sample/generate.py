"""The embedded sample: rows of `train.parquet` and `exam.parquet`, in SYNTH's full schema.

Deterministic: the same rows in the same order on every run. The exam never repeats a training query.
"""

import random

from train.data.sample.calculation import build_math_rows
from train.data.sample.copying import build_editing_rows, build_rag_rows
from train.data.sample.memorization import build_mcq_rows, build_memorization_rows


SEED = 20240229


def build_sample() -> tuple[list[dict], list[dict]]:
    """Training rows and exam rows. Training rows are shuffled, because neighbours share a sequence."""
    rng = random.Random(SEED)
    train_rows, exam_rows = [], []
    for build in (build_memorization_rows, build_mcq_rows, build_math_rows, build_rag_rows, build_editing_rows):
        train_part, exam_part = build(rng)
        train_rows += train_part
        exam_rows += exam_part
    rng.shuffle(train_rows)
    for number, row in enumerate(train_rows + exam_rows):
        row["synth_id"] = f"sample-{number:06d}"
    return train_rows, exam_rows
