"""The language-modelling loss, computed without holding the logits of all positions.

The logits of a batch are B * T * V numbers: for GPT-2 at 4 x 512 tokens 412 MB in float32, and as much again for their
gradient, while the model's own activations of a block take a few MB. Here the head is applied to a few hundred rows at
a time, and each chunk's logits are dropped once its share of loss and gradient is known.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .chunked_head import CHUNK_ROWS, summed_loss


def next_token_loss(
    hidden_states: Tensor,
    head_weight: Tensor,
    labels: Tensor | None,
    num_items_in_batch: Tensor | int | None = None,
    ignore_index: int = -100,
    shift_labels: Tensor | None = None,
    **kwargs,
) -> Tensor:
    """Cross-entropy of each position's prediction of the next token.

    Identical to transformers' `ForCausalLMLoss(head(hidden_states), labels, ...)` in value and in every gradient,
    except that it takes the head's input and weight in place of its output. Not differentiable twice.

    Args:
        hidden_states: (B, T, C).
        head_weight: (V, C).
        labels: (B, T), shifted here: position t is scored against the label of t + 1.
        num_items_in_batch: the number of labels to divide the sum by, where a batch is spread over gradient
            accumulation or processes; by default the mean over this call's labels.
        ignore_index: the label of positions that do not count.
        shift_labels: (B, T), labels that are already shifted, used in place of `labels`.

    Returns:
        A float32 scalar, in nats per token.
    """
    if shift_labels is None:
        assert labels is not None
        # Shift the labels and not the hidden states: padding an integer row is cheap, copying the states is not.
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    rows = hidden_states.flatten(0, -2)  # (B * T, C)
    targets = shift_labels.flatten().to(rows.device)
    device_type = rows.device.type
    dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else rows.dtype
    labelled = targets != ignore_index
    count = labelled.sum() if num_items_in_batch is None else num_items_in_batch
    if device_type == "cpu" and not torch.compiler.is_compiling():
        # Rows without a label cost nothing: the last of each sequence, and in fine-tuning those of the prompts. On an
        # accelerator, choosing rows would make the host wait for it.
        rows, targets = rows[labelled], targets[labelled]
    # Off, since the chunks cast for themselves: autocast would keep one cast weight, and sum its gradients in 16 bits.
    with torch.autocast(device_type, enabled=False):
        total_of = sum_over_chunks if torch.compiler.is_compiling() else summed_loss
        return total_of(rows, head_weight, targets, dtype, ignore_index) / count


def sum_over_chunks(
    rows: Tensor, head_weight: Tensor, targets: Tensor, dtype: torch.dtype, ignore_index: int
) -> Tensor:
    """`summed_loss` in operations that `torch.compile` follows: each chunk's logits are made again in the backward
    pass."""

    def chunk_loss(chunk: Tensor, weight: Tensor, chunk_targets: Tensor) -> Tensor:
        logits = F.linear(chunk.to(dtype), weight.to(dtype)).float()
        return F.cross_entropy(logits, chunk_targets, ignore_index=ignore_index, reduction="sum")

    losses = [
        # Nothing random happens inside, so there is no random state to keep.
        checkpoint(chunk_loss, chunk, head_weight, chunk_targets, use_reentrant=False, preserve_rng_state=False)
        for chunk, chunk_targets in zip(rows.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True)
    ]
    return torch.stack(losses).sum()
