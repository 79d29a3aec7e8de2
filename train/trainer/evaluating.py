"""Evaluation by the Trainer: the loss per token, whatever the batches and processes, without any logits."""

import bisect
import itertools
import math
from functools import cached_property

import torch
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from train.data.sequences.prepared_sequences import ValidationParts
from train.tokenizer.text_bytes import bytes_of_ids


TOKENS_AT_ONCE_ON_CPUS = 2048  # enough for matrix products at full speed


class EvaluationTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that the validation loss is the mean over tokens of the plain
    cross-entropy, whatever the training minimises; comes with its perplexity, and with the bits per byte of the text
    that the scored tokens stand for, by which models with different tokenizers compare; and is computed without holding
    the logits of all positions. Of `ValidationParts`, each part has a loss, too."""

    _evaluated_batches: int
    _validation: torch.Tensor  # (parts, 3): nats, tokens and bytes, summed over this process's batches

    def evaluation_loop(self, *args, **kwargs) -> EvalLoopOutput:
        self._evaluated_batches = 0
        device = self.args.device
        precise = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self._validation = torch.zeros(len(self._part_ends), 3, device=device, dtype=precise)
        output = super().evaluation_loop(*args, **kwargs)
        parts = self.accelerator.reduce(self._validation, reduction="sum")
        nats, tokens, text_bytes = parts.sum(dim=0).tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        loss = nats / tokens
        # Beyond e^100 the number says nothing, and math.exp overflows at e^710.
        output.metrics.update({f"{prefix}_loss": loss, f"{prefix}_perplexity": math.exp(min(loss, 100.0))})
        if text_bytes:
            output.metrics[f"{prefix}_bits_per_byte"] = nats / math.log(2) / text_bytes
        if len(parts) > 1:
            losses = zip(self.eval_dataset.names, parts.tolist(), strict=True)
            output.metrics.update({f"{prefix}_loss_of_{name}": part[0] / part[1] for name, part in losses if part[1]})
        return output

    @property
    def _part_ends(self) -> list[int]:
        parted = isinstance(self.eval_dataset, ValidationParts)
        return self.eval_dataset.cumulative_sizes if parted else [len(self.eval_dataset)]

    @cached_property
    def _bytes_of_ids(self) -> torch.Tensor:
        if self.processing_class is None:
            return torch.zeros(self.model.config.vocab_size, dtype=torch.int64, device=self.args.device)
        return torch.tensor(bytes_of_ids(self.processing_class), device=self.args.device)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of one batch; its nats and tokens are added up for the mean over all of them."""
        labels = inputs["labels"].clone()
        # The last batches of several processes are filled up with rows from the beginning, which count once only.
        sharing = self.get_tp_size()  # processes that read the same batches
        readers, reader = self.args.world_size // sharing, self.args.process_index // sharing
        first_batch, size, ends = self._evaluated_batches * readers, self.args.eval_batch_size, self._part_ends
        begin = (first_batch + reader) * size
        labels[max(ends[-1] - begin, 0) :] = -100
        self._evaluated_batches += 1
        inputs = self._prepare_inputs({**inputs, "labels": labels})
        rows, length = labels.shape
        # On CPUs a few sequences at a time, which is as fast and leaves the memory of the others alone.
        at_once = max(1, TOKENS_AT_ONCE_ON_CPUS // length) if self.args.device.type == "cpu" else rows
        sums = torch.zeros_like(self._validation)
        # Where a part ends in the batch of any process: shards of a model compute together, call by call.
        begins = [(first_batch + other) * size for other in range(readers)]
        inner = {end - other for end in ends for other in begins if 0 < end - other < rows}
        cuts = {*range(0, rows, at_once), *inner, rows}
        for first, last in itertools.pairwise(sorted(cuts)):
            part = {name: tensor[first:last] for name, tensor in inputs.items()}
            with torch.no_grad(), self.compute_loss_context_manager():
                # The model's own loss. With a cache, packed documents would see each other.
                loss = model(**part, skip_logits=True, use_cache=False).loss.mean()
            targets = part["labels"][:, 1:]
            scored = targets != -100
            tokens = scored.sum()
            nats = torch.where(tokens > 0, loss.to(sums.dtype) * tokens, 0.0)
            text_bytes = (self._bytes_of_ids[targets.clamp(min=0)] * scored).sum()
            number = min(bisect.bisect_right(ends, begin + first), len(ends) - 1)  # the filling counts nowhere
            sums[number] += torch.stack([nats, tokens.to(sums.dtype), text_bytes.to(sums.dtype)])
        self._validation += sums
        nats, tokens, _ = sums.sum(dim=0)
        return (nats / tokens).float(), None, None
