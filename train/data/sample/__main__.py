"""Write the embedded sample, its tokenizer, and the practice of post-training again.

python -m train.data.sample [--output_dir DIR]
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.rows.synth import row_to_text
from train.data.sample.generate import build_sample
from train.data.sample.practice import build_practice
from train.run_files import command_parser
from train.tokenizer.training import train_tokenizer


VOCABULARY = 1280  # about each word of the sample whole


def write_files(output_dir: Path) -> None:
    """Write the four parquet files, in SYNTH's full schema, and the tokenizer."""
    output_dir.mkdir(parents=True, exist_ok=True)
    sample = build_sample()
    for names, parts in ((("train", "exam"), sample), (("practice", "practice_exam"), build_practice())):
        for name, rows in zip(names, parts, strict=True):
            schema = pa.schema([(column, pa.int64() if column == "words" else pa.string()) for column in rows[0]])
            table = pa.Table.from_pylist(rows, schema=schema)
            pq.write_table(table, output_dir / f"{name}.parquet", compression="zstd")
    tokenizer = train_tokenizer(map(row_to_text, sample[0]), VOCABULARY, split_digits=True)
    tokenizer.save_pretrained(output_dir / "tokenizer")


if __name__ == "__main__":
    parser = command_parser("train.data.sample", __doc__)
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).parent, help="default: this folder")
    write_files(parser.parse_args().output_dir)
