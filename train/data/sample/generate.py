"""Write the embedded sample: `train.parquet` and `exam.parquet`, in SYNTH's full schema.

    python -m train.data.sample.generate [--output_dir DIR]

Deterministic: the same rows in the same order on every run. The exam never repeats a training query.
"""

import argparse
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.sample.calculation import build_math_rows
from train.data.sample.copying import build_editing_rows, build_rag_rows
from train.data.sample.memorization import (
    build_mcq_rows,
    iterate_memorization_exam,
    iterate_memorization_train,
)
from train.data.sample.rows import SYNTH_SCHEMA


SEED = 20240229
SAMPLE_DIR = Path(__file__).parent


def build_sample() -> tuple[list[dict], list[dict]]:
    """Training rows and exam rows. Training rows are shuffled, because neighbours share a block of tokens."""
    rng = random.Random(SEED)
    parts = [(list(iterate_memorization_train()), list(iterate_memorization_exam()))]
    parts += [build(rng) for build in (build_mcq_rows, build_math_rows, build_rag_rows, build_editing_rows)]
    train_rows = [row for train_part, _ in parts for row in train_part]
    exam_rows = [row for _, exam_part in parts for row in exam_part]
    rng.shuffle(train_rows)
    for number, row in enumerate(train_rows + exam_rows):
        row["synth_id"] = f"sample-{number:06d}"
    return train_rows, exam_rows


def write_sample(output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "exam"), build_sample(), strict=True):
        table = pa.Table.from_pylist(rows, schema=SYNTH_SCHEMA)
        pq.write_table(table, output_dir / f"{name}.parquet", compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=SAMPLE_DIR, help="where both parquet files go")
    write_sample(parser.parse_args().output_dir)


if __name__ == "__main__":
    main()
