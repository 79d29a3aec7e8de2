"""The Trainer of pre-training on prepared sequences."""

from torch.nn.functional import pad
from transformers import PreTrainedModel

from train.callbacks.flops import flops_per_token
from train.trainer.evaluating import EvaluationTrainer
from train.trainer.trainer import RunTrainer


class PretrainingTrainer(RunTrainer, EvaluationTrainer):
    """Identical to its parents, except that it counts tokens and their arithmetic for the log, from the length of a
    training sequence, and that `--label_smoothing_factor` smooths the loss of the next token."""

    def __init__(self, *args, model: PreTrainedModel, sequence_tokens: int, **kwargs):
        flops = flops_per_token(model.config, sequence_tokens)
        super().__init__(*args, model=model, flops_per_token=flops, **kwargs)
        self.tokens_per_step = self.get_total_train_batch_size(self.args) * sequence_tokens

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.label_smoother is not None:  # which shifts labels only for models that transformers knows by name
            inputs = {**inputs, "labels": pad(inputs["labels"][:, 1:], (0, 1), value=-100)}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def tokens_seen(self) -> int:
        return self.state.global_step * self.tokens_per_step
