"""Reinforcement from answers that can be checked: TRL's `GRPOTrainer`, with what `PostTrainingTrainer` adds.

The model answers a question several times over; answers that are better than the others to the same question (right
before wrong, in the right form before another) become likelier, the others less likely. No reasoning has to be written
down for it, only what the answer is.
"""

import logging
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy

from train.checkpointing import checkpoints
from train.data.rows.synth import Row, question_to_ids, row_to_question
from train.evaluation.generation import write_texts
from train.post_training.data.data import PostTrainingData
from train.post_training.rollouts.verifiable_answers import accuracy_reward, build_form_reward
from train.post_training.rollouts.verifiable_questions import refuse_all_alike, verifiable_rows
from train.post_training.settings.lora import build_adapter_config
from train.post_training.settings.recipe import PostTrainingRecipe
from train.post_training.trainer import PostTrainingTrainer


logger = logging.getLogger(__name__)

QUESTIONS_TRIED = 64  # before training, to see whether there is anything to learn


class ReinforcementTrainer(PostTrainingTrainer, GRPOTrainer):
    """Identical to `trl.GRPOTrainer`, except for what the other parent changes, and that

    - questions are encoded as in training (see `question_to_ids`);
    - log-probabilities are those of the positions that the answers were written at: TRL scores a batch padded on the
      left without telling positions, which is right for models with rotary ones, and for GPT-2 scores another text;
    - logits are computed for the answers only;
    - a resumed run generates at the steps at which it would have.
    """

    def train(self, resume_from_checkpoint=None, **kwargs):
        if resume_from_checkpoint is not None:
            step = checkpoints.step_of(Path(resume_from_checkpoint))
            self._step = step * self.args.gradient_accumulation_steps
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def count_tokens(self, batch) -> int:
        return 0  # TRL counts prompts and answers itself, when it has them

    def describe_rows(self, step: int) -> str:
        return f"questions {', '.join(map(str, sorted(set(self.rows_of_step(step)))))}"

    def _tokenize_prompts(self, prompts: list[str]):
        return [question_to_ids(prompt, self.processing_class) for prompt in prompts], None, {}

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities (B, T) of the last `logits_to_keep` tokens, and the entropies there."""
        log_probabilities, entropies = [], []
        rows = batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(rows), attention_mask.split(rows), strict=True):
            outputs = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
                logits_to_keep=logits_to_keep + 1,
                use_cache=False,
            )
            logits = outputs.logits[:, :-1].float()  # what each position says of the next token
            found = selective_log_softmax_and_entropy(
                logits,
                ids[:, -logits_to_keep:],
                entropy_requires_grad=self.entropy_coef != 0 or self.use_adaptive_entropy,
                temperature=self.temperature,
            )
            log_probabilities.append(found[0])
            entropies.append(found[1])
        return torch.cat(log_probabilities), torch.cat(entropies) if compute_entropy else None, None


def build_grpo_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
    callbacks: list[TrainerCallback],
) -> ReinforcementTrainer:
    """The Trainer for a recipe of grpo.

    Args:
        data: lists of rows with SYNTH's columns; those whose answer cannot be checked are left out and counted.

    Raises:
        RunRefusedError: no question can be checked, or the model's answers to a question are all alike.
    """
    training = recipe.training
    room = model.config.max_position_embeddings - training.max_completion_length
    train = verifiable_rows(data.train, "train", tokenizer, room, data.statistics)
    validation = verifiable_rows(data.validation, "validation", tokenizer, room, data.statistics)
    if recipe.resume_from is None:
        _check_start(recipe, model.to(training.device), tokenizer, train)
    _say_how_exact(recipe)
    return ReinforcementTrainer(
        model=model,
        reward_funcs=[accuracy_reward, build_form_reward(tokenizer.eos_token_id)],
        args=training,
        train_dataset=_to_dataset(train),
        eval_dataset=_to_dataset(validation),
        processing_class=tokenizer,
        peft_config=build_adapter_config(recipe.lora),
        callbacks=callbacks,
        **recipe.trainer_values(),
        data_name=data.name,
    )


def _check_start(
    recipe: PostTrainingRecipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row]
) -> None:
    training = recipe.training
    tried = rows[:QUESTIONS_TRIED]
    texts = write_texts(
        model,
        [question_to_ids(row_to_question(row), tokenizer) for row in tried],
        max_new_tokens=training.max_completion_length,
        end_of_text=tokenizer.eos_token_id,
        title="Sampling",
        samples=training.num_generations,
        temperature=training.temperature,
        seed=training.seed,
    )
    refuse_all_alike(texts, tried, tokenizer, "--num_generations")


def _say_how_exact(recipe: PostTrainingRecipe) -> None:
    training = recipe.training
    per_step = training.gradient_accumulation_steps
    if (training.steps_per_generation, training.num_iterations) != (per_step, 1):
        logger.info(
            "Answers serve for several steps (--steps_per_generation, --num_iterations): a run that is stopped between "
            "them samples them anew when it is resumed, and is the same in distribution, not bit for bit."
        )


def _to_dataset(rows: list[Row]) -> Dataset:
    columns = ("exercise", "query", "synthetic_answer")
    return Dataset.from_list(
        [{"prompt": row_to_question(row), **{name: row.get(name) for name in columns}} for row in rows]
    )
