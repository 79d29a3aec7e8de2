"""Preference: TRL's `DPOTrainer`, with what `PostTrainingTrainer` adds, on pairs of answers to one question."""

import copy
import logging

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.dpo_trainer import DPOTrainer

from train.errors import RunRefusedError
from train.post_training.data.prepare import PostTrainingData
from train.post_training.rollouts.answer_sampling import sample_answers
from train.post_training.rollouts.preference_pairs import Pair, make_pairs, read_pairs, write_pairs
from train.post_training.settings.arguments import PairArguments
from train.post_training.settings.lora import build_adapter_config
from train.post_training.settings.recipe import PostTrainingRecipe
from train.post_training.trainer import PostTrainingTrainer
from train.run_files import PAIRS_FILE


logger = logging.getLogger(__name__)


class PreferenceTrainer(PostTrainingTrainer, DPOTrainer):
    """Identical to `trl.DPOTrainer`, except for what the other parent changes, and that pairs come as token ids, so
    that text that looks like a special token stays text."""

    def _prepare_dataset(self, dataset: Dataset, *args, **kwargs) -> Dataset:
        return dataset


def build_dpo_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
    callbacks: list[TrainerCallback],
) -> PreferenceTrainer:
    """The Trainer for a recipe of dpo.

    Args:
        data: pairs, or questions that the model answers first.

    Raises:
        RunRefusedError: the answers give no pair, or the pairs of the run that is resumed are gone.
    """
    train, validation = data.train, data.validation
    if "chosen_ids" not in train.column_names:
        train, validation = _own_pairs(recipe, model.to(recipe.training.device), tokenizer, data)
    adapters = build_adapter_config(recipe.lora)
    return PreferenceTrainer(
        model=model,
        # Without adapters, which can be switched off, the model as it is before the first step.
        ref_model=copy.deepcopy(model).eval() if adapters is None else None,
        args=recipe.training,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=adapters,
        callbacks=callbacks,
        **recipe.trainer_values(),
        data_name=data.name,
    )


def _own_pairs(
    recipe: PostTrainingRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: PostTrainingData
) -> tuple[Dataset, Dataset]:
    """Training and validation pairs of the model's own answers, kept in the run folder for a resumed run."""
    file = recipe.run_folder / PAIRS_FILE
    if recipe.resume_from is None:
        pairs = {
            split: _make_split(split, questions, model, tokenizer, recipe.pairs, recipe.training.seed)
            for split, questions in (("train", data.train), ("validation", data.validation))
        }
        if recipe.training.should_save:
            recipe.run_folder.mkdir(parents=True, exist_ok=True)
            write_pairs(file, pairs, tokenizer)
            logger.info("%d pairs to train on and %d to evaluate on: %s", *map(len, pairs.values()), file)
    elif file.is_file():
        pairs = read_pairs(file)
    else:
        raise RunRefusedError(f"{file} is gone: without the pairs that were made the run cannot go on.")
    return Dataset.from_list(pairs["train"]), Dataset.from_list(pairs["validation"])


def _make_split(
    split: str,
    questions: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: PairArguments,
    seed: int,
) -> list[Pair]:
    rows = questions.to_list()
    answers = sample_answers(
        model,
        tokenizer,
        rows,
        samples=settings.pair_samples,
        temperature=settings.pair_temperature,
        max_new_tokens=settings.pair_tokens,
        seed=seed,
        samples_name="--pair_samples",
    )
    pairs = list(make_pairs(rows, answers, tokenizer, settings.pairs_per_question, seed))
    if not pairs:
        raise RunRefusedError(f"No right answer in the right form could be paired with a wrong one for {split}.")
    return pairs
