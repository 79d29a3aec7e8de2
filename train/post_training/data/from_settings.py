"""The settings of the data as the values that this folder works with: the only file here that knows the settings."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from train.data.files.shard_access import check_beginning
from train.data.files.sources import Source, find_source
from train.data.from_settings import find_validation, naming_validation
from train.data.rows.row_filter import RowFilter
from train.post_training.data.prepare import RowPreparation
from train.post_training.data.usable_rows import columns_of
from train.post_training.settings.recipe import PostTrainingRecipe


def to_preparation(
    recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase, context_tokens: int
) -> RowPreparation:
    """The rows of a recipe, and how they become examples.

    Raises:
        ValueError, OSError: the source cannot be found, a file lacks columns, or the Hub cannot be reached.
    """
    rows = recipe.rows
    source = find_source(*rows.places()[0])
    _check_columns(source, recipe.method)
    with naming_validation(rows):
        if (validation := find_validation(rows, [source])) is not None:
            _check_columns(validation, recipe.method)
    return RowPreparation(
        source=source,
        method=recipe.method,
        row_filter=RowFilter(
            languages=rows.languages,
            exercises=rows.exercises,
            validation_fraction=rows.validation_fraction,
            split_seed=rows.split_seed,
        ),
        tokenizer=tokenizer,
        max_tokens=context_tokens if recipe.method == "grpo" else recipe.sequence_tokens,
        answer_tokens={"sft": 0, "dpo": recipe.pairs.pair_tokens, "grpo": recipe.sequence_tokens}[recipe.method],
        max_samples=rows.max_samples,
        cache_dir=Path(rows.data_cache_dir) if rows.data_cache_dir else None,
        validation=validation,
    )


def _check_columns(source: Source, method: str) -> None:
    for shard in source.shards if source.revision is None else source.shards[:1]:
        check_beginning(shard, columns_of(method))
