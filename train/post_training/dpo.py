"""Preference: TRL's `DPOTrainer`, with what `PostTrainingTrainer` adds, on pairs of answers to one question."""

import copy
import logging

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.dpo_trainer import DPOTrainer

from train.data.rows.statistics import SPLITS
from train.data.rows.synth import Row, question_to_ids, row_to_question
from train.errors import RunRefusedError
from train.evaluation.generation import write_texts
from train.post_training.data.conversations import UnusableRowError
from train.post_training.data.data import PostTrainingData
from train.post_training.rollouts.preference_pairs import Pair, make_pairs, read_pairs, row_to_pair, write_pairs
from train.post_training.rollouts.verifiable_questions import refuse_all_alike, verifiable_rows
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
        data: lists of rows with `chosen` and `rejected`, or of SYNTH rows, whose questions the model answers first.

    Raises:
        RunRefusedError: there is no pair to train on, or none to evaluate on.
    """
    adapters = build_adapter_config(recipe.lora)
    pairs = find_pairs(recipe, model.to(recipe.training.device), tokenizer, data)
    return PreferenceTrainer(
        model=model,
        # Without adapters, which can be switched off, the model as it is before the first step.
        ref_model=copy.deepcopy(model).eval() if adapters is None else None,
        args=recipe.training,
        train_dataset=_to_dataset(pairs["train"]),
        eval_dataset=_to_dataset(pairs["validation"]),
        processing_class=tokenizer,
        peft_config=adapters,
        callbacks=callbacks,
        **recipe.trainer_values(),
        data_name=data.name,
    )


def find_pairs(
    recipe: PostTrainingRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: PostTrainingData
) -> dict[str, list[Pair]]:
    """The pairs of both splits; those that are made are kept in the run folder, for the starts that resume it.

    Raises:
        RunRefusedError: there are none of a split, or those of the run that is resumed are gone.
    """
    makes = all("chosen" not in row for row in data.train)
    file = recipe.run_folder / PAIRS_FILE
    if not makes:
        parts = zip(SPLITS, (data.train, data.validation), strict=True)
        return {split: _pairs_of_rows(recipe, rows, split, tokenizer, data) for split, rows in parts}
    if recipe.resume_from is not None:
        if not file.is_file():
            raise RunRefusedError(f"{file} is gone: without the pairs that were made the run cannot go on.")
        return read_pairs(file)
    pairs = {
        "train": _made_pairs(recipe, data.train, "train", model, tokenizer, data),
        "validation": _made_pairs(recipe, data.validation, "validation", model, tokenizer, data),
    }
    if recipe.training.should_save:
        recipe.run_folder.mkdir(parents=True, exist_ok=True)
        write_pairs(file, pairs, tokenizer)
        logger.info("%d pairs to train on and %d to evaluate on: %s", *map(len, pairs.values()), file)
    return pairs


def _pairs_of_rows(
    recipe: PostTrainingRecipe,
    rows: list[Row],
    split: str,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
) -> list[Pair]:
    pairs = []
    for row in rows:
        try:
            pairs.append(row_to_pair(row, tokenizer, recipe.sequence_tokens))
        except UnusableRowError as error:
            data.statistics.drop_after_all(row, split, str(error))
    if not pairs:
        raise RunRefusedError(f"No pair is left for {split}.\n{data.statistics.render()}")
    return pairs


def _made_pairs(
    recipe: PostTrainingRecipe,
    rows: list[Row],
    split: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
) -> list[Pair]:
    settings = recipe.pairs
    room = min(recipe.sequence_tokens, model.config.max_position_embeddings) - settings.pair_tokens
    questions = verifiable_rows(rows, split, tokenizer, room, data.statistics)
    texts = write_texts(
        model,
        [question_to_ids(row_to_question(row), tokenizer) for row in questions],
        max_new_tokens=settings.pair_tokens,
        end_of_text=tokenizer.eos_token_id,
        title="Sampling",
        samples=settings.pair_samples,
        temperature=settings.pair_temperature,
        seed=recipe.training.seed,
    )
    refuse_all_alike(texts, questions, tokenizer, "--pair_samples")
    pairs = list(make_pairs(questions, texts, tokenizer, settings.pairs_per_question, recipe.training.seed))
    if not pairs:
        raise RunRefusedError(f"No right answer in the right form could be paired with a wrong one for {split}.")
    return pairs


def _to_dataset(pairs: list[Pair]) -> Dataset:
    return Dataset.from_list([vars(pair) for pair in pairs])
