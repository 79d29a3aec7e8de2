"""The Trainer of pre-training on prepared sequences."""

from transformers import PreTrainedModel

from train.callbacks.flops import flops_per_token
from train.trainer.evaluating import EvaluationTrainer
from train.trainer.trainer import RunTrainer


class PretrainingTrainer(RunTrainer, EvaluationTrainer):
    """Identical to its parents, except that it counts tokens and their arithmetic for the log, from the length of a
    training sequence."""

    def __init__(self, *args, model: PreTrainedModel, sequence_tokens: int, **kwargs):
        flops = flops_per_token(model.config, sequence_tokens)
        super().__init__(*args, model=model, flops_per_token=flops, **kwargs)
        self.tokens_per_step = self.get_total_train_batch_size(self.args) * sequence_tokens

    def tokens_seen(self) -> int:
        return self.state.global_step * self.tokens_per_step
