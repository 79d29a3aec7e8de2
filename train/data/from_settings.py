"""The settings of the data as the values that this room works with: the only file here that knows the settings."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from train.data.cache_folder import cache_root
from train.data.files.sources import Source, find_source
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import Schema, find_schema
from train.data.sequences.preparation import Limit, Preparation, SequenceSettings
from train.settings.arguments import DataArguments, SourceArguments, parse_weights


# Settings that use a column of the rows, and which.
LISTS = {"languages": "language", "exercises": "exercise"}
WEIGHTS = {"language_weights": "language", "exercise_weights": "exercise"}  # for training rows


def to_preparations(arguments: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[Preparation]:
    """Find the source of each dataset, and put the settings with it.

    Raises:
        ValueError: a source cannot be found, its rows are of no schema, or a weight is none.
        OSError: the Hub cannot be reached.
    """
    row_filter = _to_row_filter(arguments)
    sources = [find_source(*place) for place in arguments.places()]
    preparations = [_to_preparation(arguments, source, row_filter, tokenizer) for source in sources]
    with naming_validation(arguments):
        source = find_validation(arguments, sources)
        if source is None:
            return preparations
        schema = _schema_of(source, arguments, LISTS, apart=True)
        return [preparation.with_validation(source, schema) for preparation in preparations]


@contextmanager
def naming_validation(arguments: SourceArguments) -> Iterator[None]:
    """Around what looks for a validation set and at it: a `ValueError` begins with the settings that name the set."""
    try:
        yield
    except ValueError as error:
        named = [(name, vars(arguments)[name]) for name in ("validation_dataset", "validation_split")]
        words = " ".join(f"--{name} {value}" for name, value in named if value is not None)
        raise ValueError(f"{words}: {error}") from error


def _to_row_filter(arguments: DataArguments) -> RowFilter:
    return RowFilter(
        languages=arguments.languages,
        exercises=arguments.exercises,
        require_reasoning=arguments.require_reasoning,
        min_row_tokens=arguments.min_row_tokens,
        max_row_tokens=arguments.max_row_tokens,
        exercise_weights=parse_weights("exercise_weights", arguments.exercise_weights),
        language_weights=parse_weights("language_weights", arguments.language_weights),
        validation_fraction=arguments.validation_fraction,
        split_seed=arguments.split_seed,
        evaluation_sets=tuple(arguments.decontaminate or ()),
    )


def _to_preparation(
    arguments: DataArguments, source: Source, row_filter: RowFilter, tokenizer: PreTrainedTokenizerBase
) -> Preparation:
    schema = _schema_of(source, arguments, WEIGHTS | LISTS)
    if arguments.drop_duplicates and source.revision is not None and (arguments.max_samples or arguments.max_tokens):
        raise ValueError(
            f"--drop_duplicates true with --max_samples or --max_tokens: all {source.bytes / 1e9:.1f} GB of "
            f"{source.name} would be fetched to look for duplicates. Leave out one, or name files here."
        )
    return Preparation(
        source=source,
        row_filter=replace(row_filter, schema=schema),
        settings=SequenceSettings(
            arguments.sequence_length, arguments.packing, skip_broken=arguments.broken_shards == "skip"
        ),
        tokenizer=tokenizer,
        cache_dir=Path(arguments.data_cache_dir) if arguments.data_cache_dir else None,
        limit=Limit(rows=arguments.max_samples or math.inf, train_tokens=arguments.max_tokens or math.inf),
        drop_duplicates=arguments.drop_duplicates,
    )


def _schema_of(source: Source, arguments: DataArguments, columns: dict[str, str], apart: bool = False) -> Schema:
    """The schema of a source, with the columns that settings use, where these are set."""
    schema = find_schema(
        source,
        arguments.text_column,
        arguments.document_separator,
        needed={column: name for name, column in columns.items() if vars(arguments)[name]},
        skip_broken=arguments.broken_shards == "skip",
        may_lack_text_column=apart,
    )
    if arguments.require_reasoning and schema.name == "text":
        raise ValueError(f"--require_reasoning true: {source.name} has texts, which do not tell reasoning apart.")
    return schema


def find_validation(arguments: SourceArguments, training: list[Source]) -> Source | None:
    """The validation set that is named apart, if one is; without a name, it is a split of the dataset that is trained
    on. A `ValueError` where it holds all of a dataset's files."""
    split, cache_dir = arguments.validation_split, arguments.data_cache_dir
    if arguments.validation_dataset is None and split is None:
        return None
    if arguments.validation_dataset is not None and [arguments.validation_dataset] != arguments.dataset:
        source = find_source(arguments.validation_dataset, split=split or "train")
    elif len(training) > 1:
        raise ValueError("of which of the datasets? Name it by --validation_dataset.")
    elif training[0].revision is None:
        raise ValueError(f"{training[0].name} lies here, and has one split: name another --validation_dataset.")
    else:
        source = find_source(training[0].name, training[0].revision, split or "train", arguments.places()[0][3])
    cache = cache_root(Path(cache_dir) if cache_dir else None)
    for one in training:
        if _contents(one, cache) <= _contents(source, cache):
            raise ValueError(f"its files are those of {one.name}, and would leave no row to train on.")
    return source


def _contents(source: Source, cache: Path) -> set[str]:
    """What tells its files from others: their checksums, or their places on the Hub."""
    return {known or str(shard) for shard, known in zip(source.shards, source.checksums(cache), strict=True)}
