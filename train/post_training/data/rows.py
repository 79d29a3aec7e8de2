"""Rows of any form, out of the files of a source."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.files.shard_access import fetch
from train.data.files.shard_reading import ROWS_PER_BATCH, BadShardError, check_kind
from train.data.files.sources import Shard, Source
from train.data.rows.synth import COLUMNS, Row


# Each is one way of writing a row; SYNTH's other columns may be absent.
SYNTH_FORM = ("query", "synthetic_answer")
FORMS = {
    "sft": (SYNTH_FORM, ("messages",), ("conversations",), ("prompt", "completion")),
    "dpo": (("chosen", "rejected"), SYNTH_FORM),
    "grpo": (SYNTH_FORM,),
}
READ_COLUMNS = (*COLUMNS, "messages", "conversations", "prompt", "completion", "chosen", "rejected")


def read_rows(source: Source, method: str) -> Iterator[Row]:
    """All rows of a source in order, with those of `READ_COLUMNS` that it has.

    Raises:
        BadShardError: a file cannot be read, or has no columns that the method could use; names the place.
    """
    for shard in source.shards:
        with tempfile.TemporaryDirectory() as folder:
            path = fetch(shard, Path(folder, "fetched"))
            check_kind(path, str(shard))
            read = _read_parquet if path.suffix == ".parquet" else _read_json_lines
            yield from read(path, shard, method)


def _check_form(columns: list[str], shard: Shard, method: str) -> None:
    if not any(set(form) <= set(columns) for form in FORMS[method]):
        wanted = " or ".join(" with ".join(form) for form in FORMS[method])
        raise BadShardError(
            f"{shard} has the columns {', '.join(columns) or 'none'}; --method {method} needs {wanted} (rename yours)."
        )


def _read_parquet(path: Path, shard: Shard, method: str) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_form(names, shard, method)
            for batch in file.iter_batches(ROWS_PER_BATCH, columns=[name for name in READ_COLUMNS if name in names]):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadShardError(f"{shard} is damaged and cannot be read ({error}): fetch it again.") from error


def _read_json_lines(path: Path, shard: Shard, method: str) -> Iterator[Row]:
    checked = False
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise BadShardError(f"{shard}, line {number} is no JSON ({error}): {text[:80]!r}") from error
            if not isinstance(row, dict):
                raise BadShardError(f"{shard}, line {number} is no JSON object: {text[:80]!r}")
            if not checked:
                _check_form(list(row), shard, method)
                checked = True
            yield {name: row[name] for name in READ_COLUMNS if name in row}
