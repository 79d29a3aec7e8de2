"""The Trainer of a recipe of post-training. TRL's are imported here when one is needed: that takes seconds."""

import copy
import logging
from typing import Any

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
    arguments = {
        "model": model,
        "args": recipe.training,
        "train_dataset": data.train,
        "eval_dataset": data.validation,
        "processing_class": tokenizer,
        "peft_config": build_adapter_config(recipe.lora),
        "callbacks": callbacks,
        "data_name": data.name,
        **recipe.trainer_values(),
    }
    if recipe.method == "dpo":
        return _build_preference_trainer(recipe, arguments)
    if recipe.method == "grpo":
        return _build_reinforcement_trainer(recipe, arguments)
    from train.post_training.sft import SupervisedTrainer

    return SupervisedTrainer(**arguments)


def _build_preference_trainer(recipe: PostTrainingRecipe, arguments: dict[str, Any]) -> PostTrainingTrainer:
    from train.post_training.dpo import PreferenceTrainer

    model = arguments["model"].to(recipe.training.device)
    if "chosen_ids" not in arguments["train_dataset"].column_names:
        questions = {"train": arguments["train_dataset"], "validation": arguments["eval_dataset"]}
        pairs = find_pairs(
            recipe.run_folder,
            model,
            arguments["processing_class"],
            questions,
            is_resumed=recipe.resume_from is not None,
            writes=recipe.training.should_save,
            samples=recipe.pairs.pair_samples,
            temperature=recipe.pairs.pair_temperature,
            max_new_tokens=recipe.pairs.pair_tokens,
            pairs_per_question=recipe.pairs.pairs_per_question,
            seed=recipe.training.seed,
        )
        arguments |= {"train_dataset": pairs["train"], "eval_dataset": pairs["validation"]}
    # Adapters can be switched off; without them the reference is the model as it is before the first step.
    reference = copy.deepcopy(model).eval() if arguments["peft_config"] is None else None
    return PreferenceTrainer(ref_model=reference, **arguments)


def _build_reinforcement_trainer(recipe: PostTrainingRecipe, arguments: dict[str, Any]) -> PostTrainingTrainer:
    from train.post_training.grpo import ReinforcementTrainer

    training, questions = recipe.training, arguments["train_dataset"]
    if recipe.resume_from is None:
        sample_answers(
            arguments["model"].to(training.device),
            arguments["processing_class"],
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
    rewards = build_rewards(arguments["processing_class"].eos_token_id)
    return ReinforcementTrainer(reward_funcs=rewards, **arguments)
