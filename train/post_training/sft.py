"""Supervised fine-tuning: TRL's `SFTTrainer`, with what `PostTrainingTrainer` adds."""

from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from train.post_training.data.collating import CollatePacked
from train.post_training.data.data import PostTrainingData
from train.post_training.settings.lora import build_adapter_config
from train.post_training.settings.recipe import PostTrainingRecipe
from train.post_training.trainer import PostTrainingTrainer
from train.trainer.evaluating import EvaluationTrainer


class SupervisedTrainer(PostTrainingTrainer, EvaluationTrainer, SFTTrainer):
    """Identical to `trl.SFTTrainer`, except for what the other parents change, and that

    - the plain loss (`--loss_type nll`) is the model's own, which computes no logits where no loss is wanted, and so
      none of TRL's figures that take them (entropy, share of tokens guessed right);
    - packed rows stay apart in a batch, but for flash attention, which reads them laid behind each other;
    - validation rows are padded, not packed.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._padding = self.processing_class.eos_token_id
        packs = self.args.packing and self.args.packing_strategy != "wrapped"
        if packs and not self.whole_model.config._attn_implementation.startswith("flash"):
            self.data_collator = CollatePacked(self._padding)

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        training_collator = self.data_collator
        self.data_collator = DataCollatorForLanguageModeling(self._padding)
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = training_collator

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.args.loss_type != "nll" or self.args.label_smoothing_factor:
            return SFTTrainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)
        inputs = {**inputs, "skip_logits": True, "use_cache": False}  # with a cache, packed rows would see each other
        return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)


def build_sft_trainer(
    recipe: PostTrainingRecipe,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: PostTrainingData,
    callbacks: list[TrainerCallback],
) -> SupervisedTrainer:
    """The Trainer for a recipe of sft.

    Args:
        data: Datasets of `input_ids` and `labels`.
    """
    recipe.training.eval_packing = False
    return SupervisedTrainer(
        model=model,
        args=recipe.training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        processing_class=tokenizer,
        peft_config=build_adapter_config(recipe.lora),
        callbacks=callbacks,
        recipe=recipe,
        data_name=data.name,
    )
