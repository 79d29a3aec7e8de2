"""Supervised fine-tuning: TRL's `SFTTrainer`, with what `PostTrainingTrainer` adds."""

import torch
from transformers import Trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from train.post_training.trainer import REAL_TOKENS, PostTrainingTrainer
from train.trainer.evaluating import EvaluationTrainer


class CollatePacked:
    """TRL's batches, except that packed rows stay apart: TRL joins the rows of a batch to one long row, whose attention
    mask grows with the square of the batch. The `padding` token has no loss, and sees only itself."""

    def __init__(self, padding: int, in_one_row: bool):
        self.in_one_row = in_one_row  # as TRL does, for flash attention, which needs no mask then
        self.join_rows = DataCollatorForLanguageModeling(padding, padding_free=True)
        self.pad_rows = DataCollatorForLanguageModeling(padding, return_position_ids=True)

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """`input_ids` (B, T); `labels`, -100 where there is no loss; `position_ids`, which begin again at each
        conversation; and `real_tokens`, or the `attention_mask` of rows that are not packed."""
        is_packed = "seq_lengths" in examples[0]
        batch = (self.join_rows if is_packed and self.in_one_row else self.pad_rows)(examples)
        if is_packed and not self.in_one_row:
            # Attention stays inside a conversation where no mask is given and positions begin again.
            batch[REAL_TOKENS] = batch.pop("attention_mask").sum()
            batch["labels"][batch["position_ids"] == 0] = -100  # nothing announces a conversation's first token
        return batch


class SupervisedTrainer(PostTrainingTrainer, EvaluationTrainer, SFTTrainer):
    """Identical to `trl.SFTTrainer`, except for what the other parents change, and that

    - the plain loss (`--loss_type nll`) is the model's own, which computes no logits where no loss is wanted, and so
      none of TRL's figures that need them (entropy, share of tokens guessed right);
    - packed rows stay apart in a batch (see `CollatePacked`), and validation rows are not packed.
    """

    def __init__(self, *, args: SFTConfig, **kwargs):
        args.eval_packing = False
        super().__init__(args=args, **kwargs)
        if args.packing and args.packing_strategy != "wrapped":  # TRL takes no other collator at the start
            flash = self.whole_model.config._attn_implementation.startswith("flash")
            self.data_collator = CollatePacked(self.processing_class.eos_token_id, in_one_row=flash)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.args.loss_type != "nll" or self.args.label_smoothing_factor:
            return SFTTrainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        inputs = {**inputs, "skip_logits": True, "use_cache": False}  # with a cache, packed rows would see each other
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
