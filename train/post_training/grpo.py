"""Reinforcement from answers that can be checked: TRL's `GRPOTrainer`, with what `PostTrainingTrainer` adds.

The model answers a question several times over; answers that are better than the others to the same question (right
before wrong, in the right form before another) become likelier, the others less likely.
"""

import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy

from train.checkpointing import checkpoints
from train.data.rows.synth import question_to_ids
from train.post_training.trainer import PostTrainingTrainer


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
            self._step = checkpoints.step_of(resume_from_checkpoint) * self.args.gradient_accumulation_steps
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def count_tokens(self, batch) -> int:
        return 0  # TRL counts prompts and answers itself, when it has them

    def describe_rows(self, step: int) -> str:
        return f"questions {', '.join(map(str, sorted(set(self.rows_of_step(step)))))}"

    def validation_ids(self, row: int) -> list[int]:
        return question_to_ids(self.eval_dataset[row]["prompt"], self.processing_class)

    def _tokenize_prompts(self, prompts: list[str]):
        return [question_to_ids(prompt, self.processing_class) for prompt in prompts], None, {}

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
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
