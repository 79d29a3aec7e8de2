"""A model's loss on the validation sequences of its pre-training: it rises where the model forgets."""

import logging
from dataclasses import dataclass

import torch
from torch.utils.data import ConcatDataset, DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.from_settings import to_preparations
from train.data.sequences.packing import choose_collator
from train.data.sequences.prepare import prepare_data
from train.data.sequences.prepared_sequences import apportion, to_shares
from train.evaluation.opened_model import find_recipe, read_trained_on
from train.settings.arguments import DataArguments
from train.settings.recipe_file import read_recipe_file


logger = logging.getLogger(__name__)

SEQUENCES_AT_ONCE = 8


@dataclass(frozen=True)
class ValidationSequences:
    batches: list[dict[str, torch.Tensor]]
    count: int  # of sequences in all batches

    @torch.no_grad()
    def mean_loss(self, model: PreTrainedModel) -> float:
        """Nats per token."""
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


def load_pretraining_sequences(
    init_from: str, count: int, tokenizer: PreTrainedTokenizerBase, writes: bool
) -> ValidationSequences | None:
    """The first `count` validation sequences of the pre-training behind a run folder, a checkpoint, or a Hub id.

    Returns:
        `None` where `count` is 0; with a warning, where no recipe is beside the model or its rows cannot be read.
    """
    if not count:
        return None
    try:
        data = find_pretraining_data(init_from)
        preparations, weights = to_preparations(data, tokenizer), data.dataset_weights
        if preparations[0].validation is not None:  # the same of all
            preparations, weights = preparations[:1], None
        wanted = apportion(count, to_shares(weights or [1] * len(preparations)))
        parts = []
        for preparation, most in zip(preparations, wanted, strict=True):
            part = preparation if preparation.is_whole else preparation.only_validation(max(most, 1))
            parts.append(prepare_data(part, writes=writes).validation.first(most))
        sequences: ConcatDataset = ConcatDataset(parts)
    except (ValueError, OSError) as error:
        logger.warning("What is forgotten of the pre-training is not measured: %s", error)
        return None
    collate = choose_collator(preparations[0].settings.packing, tokenizer.eos_token_id)
    batches = DataLoader(sequences, batch_size=SEQUENCES_AT_ONCE, collate_fn=collate)
    return ValidationSequences(list(batches), len(sequences))


def find_pretraining_data(init_from: str) -> DataArguments:
    """The settings of the data that a model was pre-trained on; through the runs of post-training that it went through.

    Raises:
        ValueError, OSError: there is no recipe beside a model.
    """
    while (recipe := find_recipe(init_from)) is not None:
        settings = read_recipe_file(str(recipe))
        if "method" in settings:
            init_from = settings["init_from"]
        elif (trained_on := read_trained_on(recipe)) is not None:
            return trained_on.data
        else:
            break
    raise ValueError(f"{init_from} has no recipe of a pre-training.")
