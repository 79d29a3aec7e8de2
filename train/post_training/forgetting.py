"""What a model has forgotten of its pre-training: the loss on what that held out, before and after."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.from_settings import to_preparation
from train.data.sequences.packing import choose_collator
from train.data.sequences.prepare import prepare_data
from train.post_training.settings.recipe import PostTrainingRecipe
from train.run_files import RECIPE_FILE
from train.settings.arguments import DataArguments
from train.settings.parser import pick
from train.settings.recipe import settings_parser
from train.settings.recipe_file import read_recipe_file


logger = logging.getLogger(__name__)

BLOCKS_AT_ONCE = 8


@dataclass(frozen=True)
class ValidationSequences:
    """Batches of a pre-training's held-out blocks, and the number of blocks."""

    batches: list[dict[str, torch.Tensor]]
    blocks: int

    @torch.no_grad()
    def loss(self, model: PreTrainedModel) -> float:
        """Nats a token."""
        was_training = model.training
        model.eval()
        nats = tokens = 0.0
        for batch in self.batches:
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            counted = int((batch["labels"][:, 1:] != -100).sum())
            nats += float(model(**batch, skip_logits=True, use_cache=False).loss) * counted
            tokens += counted
        model.train(was_training)
        return nats / tokens


def load_pretraining_blocks(
    recipe: PostTrainingRecipe, tokenizer: PreTrainedTokenizerBase
) -> ValidationSequences | None:
    """The first held-out blocks of the pre-training that the model in `--init_from` comes from.

    Returns:
        `None`, with a warning, where its recipe is not beside the model, or its rows cannot be read.
    """
    if not recipe.run.forgetting_sequences:
        return None
    try:
        data = find_pretraining_data(recipe.start.init_from)
        return _load_blocks(data, tokenizer, recipe.run.forgetting_sequences, recipe.training.local_process_index == 0)
    except (ValueError, OSError) as error:
        logger.warning("What is forgotten of the pre-training is not measured: %s", error)
        return None


def find_pretraining_data(source: str) -> DataArguments:
    """The settings of the data that a model was pre-trained on; through the runs of post-training that it went through.

    Raises:
        ValueError, OSError: there is no recipe beside the model.
    """
    while True:
        file = _find_recipe(source)
        settings = read_recipe_file(str(file))
        if "method" not in settings:
            words = ["--config", str(file)]
            return pick(settings_parser(words).resolve(words), DataArguments)
        source = settings["init_from"]


def _find_recipe(source: str) -> Path:
    folder = Path(source).expanduser()
    if (folder / RECIPE_FILE).is_file():
        return folder / RECIPE_FILE
    if folder.exists():
        raise ValueError(f"{source} has no {RECIPE_FILE}.")
    try:
        return Path(hf_hub_download(source, RECIPE_FILE))
    except EntryNotFoundError as error:
        raise ValueError(f"{source} has no {RECIPE_FILE}.") from error


def _load_blocks(
    data: DataArguments, tokenizer: PreTrainedTokenizerBase, count: int, writes: bool
) -> ValidationSequences:
    preparation = to_preparation(data, tokenizer)
    if not preparation.is_whole:
        preparation = preparation.only_validation(count)
    blocks = prepare_data(preparation, writes=writes).validation.first(count)
    collate = choose_collator(preparation.settings.packing, tokenizer.eos_token_id)
    starts = range(0, len(blocks), BLOCKS_AT_ONCE)
    batches = [collate([blocks[i] for i in range(start, min(start + BLOCKS_AT_ONCE, len(blocks)))]) for start in starts]
    return ValidationSequences(batches, len(blocks))
