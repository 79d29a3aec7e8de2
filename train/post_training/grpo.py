"""Reinforcement from answers that can be checked: TRL's `GRPOTrainer`, with what `PostTrainingTrainer` adds.

The model answers a question several times over; answers that are better than the others to the same question (right
before wrong, in the right form before another) become likelier, the others less likely. No reasoning has to be written
down for it, only what the answer is.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy

from train.checkpointing import checkpoints
from train.data.rows.synth import question_to_ids
from train.post_training.data.prepare import PostTrainingData
from train.post_training.rollouts.answer_sampling import sample_answers
from train.post_training.rollouts.verifiable_answers import accuracy_reward, build_format_reward
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
        data: questions, and the columns that their answers are verified by.

    Raises:
        RunRefusedError: the model's answers to each question are all right, or all wrong.
    """
    training = recipe.training
    if recipe.resume_from is None:
        sample_answers(
            model.to(training.device),
            tokenizer,
            data.train.select(range(min(QUESTIONS_TRIED, len(data.train)))).to_list(),
            samples=training.num_generations,
            temperature=training.temperature,
            max_new_tokens=training.max_completion_length,
            seed=training.seed,
            samples_name="--num_generations",
        )
    _say_how_exact(training)
    return ReinforcementTrainer(
        model=model,
        reward_funcs=[accuracy_reward, build_format_reward(tokenizer.eos_token_id)],
        args=training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=tokenizer,
        peft_config=build_adapter_config(recipe.lora),
        callbacks=callbacks,
        **recipe.trainer_values(),
        data_name=data.name,
    )


def _say_how_exact(training: GRPOConfig) -> None:
    if (training.steps_per_generation, training.num_iterations) != (training.gradient_accumulation_steps, 1):
        logger.info(
            "Answers serve for several steps (--steps_per_generation, --num_iterations): a run that is stopped between "
            "them samples them anew when it is resumed, and is the same in distribution, not bit for bit."
        )
