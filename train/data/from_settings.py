"""The settings of the data as the values that this room works with: the only file here that knows the settings."""

import math
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from train.data.files.sources import Source, find_source
from train.data.rows.row_filter import RowFilter
from train.data.rows.schemas import find_schema
from train.data.sequences.preparation import Limit, Preparation, SequenceSettings
from train.settings.arguments import DataArguments, parse_weights


def to_preparations(arguments: DataArguments, tokenizer: PreTrainedTokenizerBase) -> list[Preparation]:
    """Find the source of each dataset, and put the settings with it.

    Raises:
        ValueError: a source cannot be found, its rows are of no schema, or a weight is none.
        OSError: the Hub cannot be reached.
    """
    return [_to_preparation(arguments, find_source(*place), tokenizer) for place in arguments.places()]


def _to_preparation(arguments: DataArguments, source: Source, tokenizer: PreTrainedTokenizerBase) -> Preparation:
    by_column = {"language": ("languages", "language_weights"), "exercise": ("exercises", "exercise_weights")}
    used = {column: [name for name in names if vars(arguments)[name]] for column, names in by_column.items()}
    schema = find_schema(
        source,
        arguments.text_column,
        arguments.document_separator,
        needed={column: names[0] for column, names in used.items() if names},
        skip_broken=arguments.broken_shards == "skip",
    )
    if arguments.require_reasoning and schema.name == "text":
        raise ValueError(f"--require_reasoning true: {source.name} has texts, which do not tell reasoning apart.")
    return Preparation(
        source=source,
        row_filter=RowFilter(
            schema=schema,
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
        ),
        settings=SequenceSettings(
            arguments.sequence_length, arguments.packing, skip_broken=arguments.broken_shards == "skip"
        ),
        tokenizer=tokenizer,
        cache_dir=Path(arguments.data_cache_dir) if arguments.data_cache_dir else None,
        limit=Limit(rows=arguments.max_samples or math.inf, train_tokens=arguments.max_tokens or math.inf),
    )
