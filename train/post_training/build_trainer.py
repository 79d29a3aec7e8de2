"""The Trainer of a recipe of post-training. TRL's are imported here when one is needed: that takes seconds."""

import copy
import logging
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from train.post_training.data.prepare import PostTrainingData
from train.post_training.rollouts.answer_sampling import sample_answers
from train.post_training.rollouts.preference_pairs import find_pairs
from train.post_training.rollouts.verifiable_answers import build_rewards
from train.post_training.settings.lora import build_adapter_config
from train.post_training.settings.recipe import PostTrainingRecipe
from train.post_training.trainer import PostTrainingTrainer


logger = logging.getLogger(__name__)

QUESTIONS_TRIED = 64  # before reinforcement, to see whether there is anything to learn


def build_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
    callbacks: list[TrainerCallback],
) -> PostTrainingTrainer:
    """The Trainer of the recipe's method; a model whose own answers give nothing to learn from is refused."""
    train, validation = data.train, data.validation
    if recipe.method == "dpo" and "chosen_ids" not in train.column_names:
        pairs = find_pairs(
            recipe.run_folder,
            model.to(recipe.training.device),
            tokenizer,
            {"train": train, "validation": validation},
            is_resumed=recipe.resume_from is not None,
            writes=recipe.training.should_save,
            samples=recipe.pairs.pair_samples,
            temperature=recipe.pairs.pair_temperature,
            max_new_tokens=recipe.pairs.pair_tokens,
            pairs_per_question=recipe.pairs.pairs_per_question,
            seed=recipe.training.seed,
        )
        train, validation = pairs["train"], pairs["validation"]
    if recipe.method == "grpo":
        _try_questions(recipe, model, tokenizer, train)
    return choose_trainer(recipe, model, tokenizer, train, validation, data_name=data.name, callbacks=callbacks)


def _try_questions(
    recipe: PostTrainingRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Dataset
) -> None:
    """Refuse a fresh start whose answers are all right or all wrong; say what a resumed one repeats."""
    training = recipe.training
    if recipe.resume_from is None:
        sample_answers(
            model.to(training.device),
            tokenizer,
            questions.select(range(min(QUESTIONS_TRIED, len(questions)))).to_list(),
            samples=training.num_generations,
            temperature=training.temperature,
            max_new_tokens=training.max_completion_length,
            seed=training.seed,
            samples_name="--num_generations",
        )
    if (training.steps_per_generation, training.num_iterations) != (training.gradient_accumulation_steps, 1):
        logger.info(
            "Answers serve for several steps (--steps_per_generation, --num_iterations): a run that is stopped between "
            "them samples them anew when it is resumed, and is the same in distribution, not bit for bit."
        )


def choose_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    **others: Any,
) -> PostTrainingTrainer:
    """The Trainer of the recipe's method, on examples that it can train on."""
    arguments = {
        "model": model,
        "args": recipe.training,
        "train_dataset": train,
        "eval_dataset": validation,
        "processing_class": tokenizer,
        "peft_config": build_adapter_config(recipe.lora),
        **recipe.trainer_values(),
        **others,
    }
    if recipe.method == "sft":
        from train.post_training.sft import SupervisedTrainer

        return SupervisedTrainer(**arguments)
    if recipe.method == "dpo":
        from train.post_training.dpo import PreferenceTrainer

        # Adapters can be switched off; without them the reference is the model as it is before the first step.
        reference = None if recipe.lora.use_peft else copy.deepcopy(model.to(recipe.training.device)).eval()
        return PreferenceTrainer(ref_model=reference, **arguments)
    from train.post_training.grpo import ReinforcementTrainer

    return ReinforcementTrainer(reward_funcs=build_rewards(tokenizer.eos_token_id), **arguments)
