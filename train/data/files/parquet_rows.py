"""The rows of a parquet file; damage is named by its row group."""

from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from train.data.files.chunk import INVALID_UTF8, BadShardError, Chunk, Columns, RowBatch


def is_parquet(name: str) -> bool:
    return name.lower().endswith(".parquet")


def open_parquet(file: BinaryIO, name: str, columns: Columns) -> pq.ParquetFile:
    """A parquet file, refused where its footer or columns are not as they should be.

    Nothing of it is read on Arrow's threads: one that still holds a part of a Python file when Python ends aborts the
    process.
    """
    try:
        parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)  # where it has such sums
    except (pa.ArrowException, OSError) as error:
        raise BadShardError(
            f"{name} is torn or damaged, its footer cannot be read ({error}): fetch it again."
        ) from error
    schema = parquet.schema_arrow
    columns.check_names(schema.names, name)
    if repeated := [column for column in columns.of(schema.names) if schema.names.count(column) > 1]:
        raise BadShardError(f"{name} has several columns {repeated[0]}: rename all but one.")
    for column in set(columns.text) & set(schema.names):
        if not _is_text(schema.field(column).type):
            raise BadShardError(f"{name}: column {column} holds {schema.field(column).type}, string is wanted.")
    return parquet


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view, types.is_null))


def read_parquet(
    file: BinaryIO, name: str, chunk: Chunk, columns: Columns, place: int | None, rows_per_batch: int
) -> Iterator[RowBatch]:
    """As `read_chunk`."""
    parquet = open_parquet(file, name, columns)
    names = columns.of(parquet.schema_arrow.names)
    absent = {column: None for column in columns.text if column not in names}
    first, last = chunk.range_of(parquet.metadata.num_rows)
    first = first if place is None else place
    end = 0
    for group in range(parquet.num_row_groups):
        begin, end = end, end + parquet.metadata.row_group(group).num_rows
        if end <= first or begin >= last:
            continue
        row = begin
        try:
            for batch in parquet.iter_batches(rows_per_batch, row_groups=[group], columns=names, use_threads=False):
                wanted = batch[max(first - row, 0) : last - row]
                row += len(batch)
                if len(wanted):
                    rows, unreadable = batch_to_rows(wanted)
                    rows = [{**one, **absent} for one in rows] if absent else rows
                    yield RowBatch(rows, unreadable, min(row, last))
                if row >= last:
                    break
        except (pa.ArrowException, OSError) as error:
            raise BadShardError(
                f"{name}, row group {group} (rows {begin:,} to {end - 1:,}) cannot be read ({error}): the file is "
                "damaged, fetch it again."
            ) from error


def batch_to_rows(batch: pa.RecordBatch) -> tuple[list[dict], Counter[str]]:
    """Readable rows, and counts of the others, by reason."""
    try:
        return batch.to_pylist(), Counter()
    except UnicodeDecodeError:  # arrow does not look at what a file says is text
        rows: list[dict] = []
        for number in range(len(batch)):
            try:
                rows += batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError:
                continue
        return rows, Counter({INVALID_UTF8: len(batch) - len(rows)})
