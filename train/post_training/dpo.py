"""Preference: TRL's `DPOTrainer`, with what `PostTrainingTrainer` adds, on pairs of answers to one question."""

from datasets import Dataset
from trl.trainer.dpo_trainer import DPOTrainer

from train.post_training.trainer import PostTrainingTrainer


class PreferenceTrainer(PostTrainingTrainer, DPOTrainer):
    """Identical to `trl.DPOTrainer`, except for what the other parent changes, and that pairs come as token ids, so
    that text that looks like a special token stays text."""

    def _prepare_dataset(self, dataset: Dataset, *args, **kwargs) -> Dataset:
        return dataset

    def validation_ids(self, row: int) -> list[int]:
        pair = self.eval_dataset[row]
        return pair["prompt_ids"] + pair["chosen_ids"]
