"""Write the embedded sample, its tokenizer, and the practice of post-training again, in SYNTH's full schema.

python -m train.data.sample [--output_dir DIR]

Deterministic: the same rows in the same order on every run. The exam never repeats a training query. The practice has
questions over sources, as the sample, but about people whom it does not name, and with answers but no reasoning: what a
model practises on that has got the rule for the names that it knows. Its exam is the sample's, with more of these
questions, as many as tell a gain from chance; no question has the sources of another's.
"""

import itertools
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.rows.synth import row_to_text
from train.data.sample.calculation import build_math_rows
from train.data.sample.copying import build_editing_rows, build_rag_rows, iterate_rag_rows
from train.data.sample.memorization import build_mcq_rows, build_memorization_rows
from train.data.sample.rows import WORDS, leave_out_reasoning
from train.run_files import command_parser
from train.tokenizer.training import train_tokenizer


VOCABULARY = 1280  # about each word of the sample whole
SEED, PRACTICE_SEED = 20240229, 20240301
PRACTICE_ROWS, EXAM_ROWS = 400, 160  # with the sample's 40, the exam then has 200 questions over sources


def build_sample() -> tuple[list[dict], list[dict]]:
    """Training rows and exam rows. Training rows are shuffled, because neighbours share a sequence."""
    rng = random.Random(SEED)
    train_rows, exam_rows = [], []
    for build in (build_memorization_rows, build_mcq_rows, build_math_rows, build_rag_rows, build_editing_rows):
        train_part, exam_part = build(rng)
        train_rows += train_part
        exam_rows += exam_part
    rng.shuffle(train_rows)
    _number(train_rows + exam_rows, "sample")
    return train_rows, exam_rows


def build_practice(exam: list[dict]) -> tuple[list[dict], list[dict]]:
    """Practice rows, and exam rows, which begin with copies of the sample's."""
    drawn = iterate_rag_rows(random.Random(PRACTICE_SEED), WORDS["practice_people"])
    rows = list(itertools.islice(drawn, PRACTICE_ROWS + EXAM_ROWS))
    for number, row in enumerate(rows):
        row["query_seed_url"] = f"sample://practice/{number:04d}"
        leave_out_reasoning(row)
    practice, practice_exam = rows[:PRACTICE_ROWS], [*map(dict, exam), *rows[PRACTICE_ROWS:]]
    _number(practice + practice_exam, "practice")
    return practice, practice_exam


def _number(rows: list[dict], name: str) -> None:
    for number, row in enumerate(rows):
        row["synth_id"] = f"{name}-{number:06d}"


def write_files(output_dir: Path) -> None:
    """Write the four parquet files and the tokenizer."""
    output_dir.mkdir(parents=True, exist_ok=True)
    train, exam = build_sample()
    practice, practice_exam = build_practice(exam)
    files = {"train": train, "exam": exam, "practice": practice, "practice_exam": practice_exam}
    for name, rows in files.items():
        schema = pa.schema([(column, pa.int64() if column == "words" else pa.string()) for column in rows[0]])
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, output_dir / f"{name}.parquet", compression="zstd")
    tokenizer = train_tokenizer(map(row_to_text, train), VOCABULARY, split_digits=True)
    tokenizer.save_pretrained(output_dir / "tokenizer")


if __name__ == "__main__":
    parser = command_parser("train.data.sample", __doc__)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent, help="default: this folder")
    write_files(parser.parse_args().output_dir)
