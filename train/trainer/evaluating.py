"""Evaluation by the Trainer: the loss per token, whatever the batches and processes, without any logits."""

import math

import torch
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput


TOKENS_AT_ONCE_ON_CPUS = 2048  # enough for matrix products at full speed


class EvaluationTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that the validation loss is the mean over tokens, comes with its
    perplexity, and is computed without holding the logits of all positions."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._evaluated_batches = 0
        self._validation: torch.Tensor | None = None  # nats and tokens, summed

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # Training skips them by itself; in evaluation the model would return logits unless told that nobody reads them.
        return super().compute_loss(model, {**inputs, "skip_logits": True}, return_outputs, num_items_in_batch)

    def evaluation_loop(self, *args, **kwargs) -> EvalLoopOutput:
        self._evaluated_batches = 0
        self._validation = torch.zeros(2, device=self.args.device, dtype=torch.float64)
        output = super().evaluation_loop(*args, **kwargs)
        nats, tokens = self.accelerator.reduce(self._validation, reduction="sum").tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        loss = nats / tokens
        # Beyond e^100 the number says nothing, and math.exp overflows at e^710.
        output.metrics.update({f"{prefix}_loss": loss, f"{prefix}_perplexity": math.exp(min(loss, 100.0))})
        return output

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of one batch; its nats and tokens are added up for the mean over all of them."""
        assert self._validation is not None
        labels = inputs["labels"].clone()
        # The last batches of several processes are filled up with rows from the beginning, which count once only.
        batch = self._evaluated_batches * self.args.world_size + self.args.process_index
        labels[max(len(self.eval_dataset) - batch * self.args.eval_batch_size, 0) :] = -100
        self._evaluated_batches += 1
        inputs = self._prepare_inputs({**inputs, "labels": labels})
        # Of this process alone, as no number of items is given.
        nats, tokens = zip(*(self._sum_loss(model, part) for part in self._split(inputs)), strict=True)
        batch_sums = torch.stack([torch.stack(nats).sum(), torch.stack(tokens).sum().double()])
        self._validation += batch_sums
        return (batch_sums[0] / batch_sums[1]).float(), None, None

    def _split(self, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        """On CPUs a few sequences at a time, which is as fast and leaves the memory of the others alone."""
        rows, length = inputs["labels"].shape
        at_once = max(1, TOKENS_AT_ONCE_ON_CPUS // length) if self.args.device.type == "cpu" else rows
        parts = {name: tensor.split(at_once) for name, tensor in inputs.items()}
        return [dict(zip(parts, tensors, strict=True)) for tensors in zip(*parts.values(), strict=True)]

    def _sum_loss(self, model, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Nats, in double precision, and tokens."""
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        tokens = (inputs["labels"][:, 1:] != -100).sum()
        return torch.where(tokens > 0, loss.double() * tokens, 0.0), tokens
