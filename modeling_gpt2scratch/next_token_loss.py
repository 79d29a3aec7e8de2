"""The language-modelling loss, computed without holding the logits of all positions.

The logits of a batch are B * T * V numbers: for GPT-2 at 4 x 512 tokens 412 MB in float32, and as much again for their
gradient, while the model's own activations of a block take a few MB. Here the head is applied to a few hundred rows at
a time, and each chunk's logits are dropped once its share of loss and gradient is known.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


# Rows of logits held at once: 512 * 50,257 * 4 bytes = 103 MB. Much smaller chunks starve the matrix product, much
# larger ones fall out of the caches; torch's own choice depends on the model's width and was slower on CPU.
CHUNK_ROWS = 512
# The operator came with torch 2.13; with an older one the model computes the loss from all logits.
HAS_CHUNKED_LOSS = hasattr(F, "linear_cross_entropy")


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
        A float32 scalar, in nats a token.
    """
    if shift_labels is None:
        assert labels is not None
        # Shift the labels and not the hidden states: padding an integer row is cheap, copying the states is not.
        shift_labels = F.pad(labels, (0, 1), value=ignore_index)[..., 1:]
    rows = hidden_states.flatten(0, -2)  # (B * T, C)
    targets = shift_labels.flatten().to(rows.device)
    device_type = rows.device.type
    if torch.is_autocast_enabled(device_type):
        # The chunked operator is not known to autocast: do for it what autocast does for a linear layer.
        dtype = torch.get_autocast_dtype(device_type)
        rows, head_weight = rows.to(dtype), head_weight.to(dtype)
    with torch.autocast(device_type, enabled=False):
        loss = F.linear_cross_entropy(
            rows,
            head_weight,
            targets,
            reduction="mean" if num_items_in_batch is None else "sum",
            ignore_index=ignore_index,
            options=nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_ROWS),
        ).float()
    return loss if num_items_in_batch is None else loss / num_items_in_batch
