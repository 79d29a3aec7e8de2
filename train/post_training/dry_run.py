"""Tells what a post-training recipe amounts to, before it runs."""

from transformers import PreTrainedTokenizerBase

from train.post_training.data.encoding import encode_conversations
from train.post_training.data.from_settings import to_preparation
from train.post_training.data.statistics import RowStatistics
from train.post_training.data.usable_rows import usable_rows
from train.post_training.settings.lora import build_adapter_config
from train.post_training.settings.recipe import PostTrainingRecipe
from train.post_training.start import load_start_model


def describe_plan(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The figures that follow from a recipe, by name; loads the model, and reads at most a thousand rows."""
    model = load_start_model(recipe, tokenizer)
    parameters = trained = model.num_parameters()
    if recipe.lora.use_peft:
        from peft import get_peft_model

        trained, _ = get_peft_model(model, build_adapter_config(recipe.lora)).get_nb_trainable_parameters()
    steps, epochs = recipe.training.max_steps, recipe.training.num_train_epochs
    return {
        "parameters": f"{parameters:,}, of which {trained:,} are trained",
        "tokens per step, at most": recipe.describe_step(),
        "rows": _describe_rows(recipe, tokenizer, model.config.max_position_embeddings),
        "steps": f"{steps:,} (--max_steps)" if steps >= 0 else f"{epochs:g} passes over the rows",
    }


def _describe_rows(recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase, context_tokens: int) -> str:
    """The first rows of local files: how many are usable, and how long they are."""
    try:
        rows = to_preparation(recipe, tokenizer, context_tokens)
        if rows.source.revision is not None:
            return f"{rows.source.name} at {rows.source.revision[:7]}, {rows.source.bytes / 1e9:.2f} GB"
        statistics = RowStatistics()
        first = next(usable_rows(rows.source, rows.method, rows.row_filter, rows.max_samples, statistics), [])
    except ConnectionError as error:  # the Hub cannot be reached: the rest of the plan still stands
        return f"{recipe.rows.dataset[0]} cannot be read: {error}"
    text = f"{len(first):,} of the first {statistics.rows_read:,} are usable"
    if recipe.method != "sft" or not first:
        return text
    conversations = encode_conversations([one.messages for one in first], tokenizer)
    lengths = sorted(len(conversation.input_ids) for conversation in conversations)
    too_long = sum(conversation.fitted(rows.max_tokens) is None for conversation in conversations)
    spread = f"{lengths[len(lengths) // 2]} tokens in the middle, {lengths[-1]} at most"
    return f"{text}; {spread}; {too_long} are longer than --max_length"
