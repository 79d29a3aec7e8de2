"""Rows that a model's training left out, read again by its own recipe, or all usable rows of another place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from train.data.files.sources import SAMPLE, find_source, short_names
from train.data.from_settings import to_preparations
from train.data.rows.reading import rows_of, usable_rows_of
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import SYNTH, Schema, find_schema
from train.data.rows.synth import Row, article_key
from train.data.sequences.preparation import Preparation
from train.data.sequences.prepared_sequences import apportion, to_shares
from train.settings.arguments import DataArguments


# Reading goes on past the rows that are wanted, so that they are drawn from more than the first file's beginning.
FOUND_PER_USED = 5


@dataclass(frozen=True)
class ValidationRows:
    rows: list[Row]  # those to score, drawn from the found ones
    found: list[Row]  # usable rows, from the source's beginning on
    all_read: bool  # whether the source has no others
    description: str  # where they come from
    schemas: list[Schema]  # of each row to score

    @property
    def questions(self) -> list[Row]:
        """The found rows that are a question with its answer."""
        return [row for row in self.found if "synthetic_answer" in row]


def read_validation(data: DataArguments, tokenizer: PreTrainedTokenizerBase, max_rows: int) -> ValidationRows:
    """The rows that training with these settings leaves out; a `ValueError` where they cannot be read again, or there
    are none."""
    try:
        preparations, weights = to_preparations(data, tokenizer), data.dataset_weights
        if (apart := preparations[0].validation) is not None:  # the same of all
            preparations, weights = [apart], None
        shares = to_shares(weights or [1] * len(preparations))
        wanted = apportion(max_rows, shares)
        parts = [_read_part(one, tokenizer, max(1, rows)) for one, rows in zip(preparations, wanted, strict=True)]
    except (ValueError, OSError) as error:
        problem = f"The rows of the model's recipe cannot be used ({str(error).rstrip('.')})"
        raise ValueError(f"{problem}: name others with --rows.") from error
    if len(parts) > 1:
        names = short_names([preparation.source for preparation in preparations])
        for name, part in zip(names, parts, strict=True):
            for row in part.found:
                row["dataset"] = name  # by which losses are grouped
    return ValidationRows(
        rows=[row for part in parts for row in part.rows],
        found=[row for part in parts for row in part.found],
        all_read=all(part.all_read for part in parts),
        description="; ".join(part.description for part in parts),
        schemas=[schema for part in parts for schema in part.schemas],
    )


def _read_part(preparation: Preparation, tokenizer: PreTrainedTokenizerBase, max_rows: int) -> ValidationRows:
    """Those of one dataset."""
    # Evaluation sets are compared with training rows only, and take long to read.
    row_filter = replace(preparation.row_filter, evaluation_sets=())
    schema, name = row_filter.schema, preparation.source.name
    rows = _left_out(rows_of(preparation.source, schema), row_filter, tokenizer)
    of = {"synth": "seed articles", "text": "texts", "messages": "first messages"}[schema.name]
    place = "the embedded sample" if name == SAMPLE else _short(str(preparation.source))
    fraction = row_filter.validation_fraction
    share = f"split {preparation.source.split}" if fraction == 1 else f"{fraction:.1%} of its {of}"
    description = f"validation rows of {place} ({share})"
    return _draw(rows, max_rows, description, f"{place}: none is a validation row", schema)


def _left_out(rows: Iterator[Row], row_filter: RowFilter, tokenizer: PreTrainedTokenizerBase) -> Iterator[Row]:
    by_length = row_filter.min_row_tokens is not None or row_filter.max_row_tokens is not None

    def has_length(row: Row) -> bool:
        texts = tokenizer(row_filter.schema.to_texts(row), split_special_tokens=True, verbose=False)["input_ids"]
        return row_filter.reason_by_length(sum(len(ids) + 1 for ids in texts)) is None  # end-of-text tokens count, too

    for row in rows:
        if row_filter.judge(row)[:2] == (None, "validation") and (not by_length or has_length(row)):
            yield row


def read_given(rows: str, max_rows: int) -> ValidationRows:
    """All usable rows of what `--rows` names; a `ValueError` where it cannot be read, or holds none."""
    try:
        source = find_source(rows)
        schema = find_schema(source)
    except (ValueError, OSError) as error:
        raise ValueError(f"--rows {rows}: {error}") from error
    usable, none = usable_rows_of(source, schema), f"--rows {rows} holds no usable row."
    return _draw(usable, max_rows, f"rows of {_short(rows)}", none, schema)


def draw_rows(rows: list[Row], count: int, schema: Schema = SYNTH) -> list[Row]:
    """So many rows from all over, in their order: those with the smallest hashes, the same ones each time."""

    def key(place: int) -> bytes:
        return article_key(schema.identity(rows[place]), salt=2)

    return [rows[place] for place in sorted(sorted(range(len(rows)), key=key)[:count])]


def _draw(usable: Iterator[Row], max_rows: int, description: str, if_none: str, schema: Schema) -> ValidationRows:
    found = list(islice(usable, FOUND_PER_USED * max_rows))
    if not found:
        raise ValueError(if_none)
    drawn = draw_rows(found, max_rows, schema)
    return ValidationRows(drawn, found, next(usable, None) is None, description, [schema] * len(drawn))


def _short(name: str) -> str:
    path = Path(name).expanduser()
    return path.resolve().name if path.exists() else name
