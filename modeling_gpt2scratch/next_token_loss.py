"""The language-modelling loss, computed without holding the logits of all positions: the one file to skip.

`F.cross_entropy(head(hidden_states), labels)` is all that it computes. The logits of a batch are B * T * V numbers: for
GPT-2 at 4 x 512 tokens 412 MB in float32, and as much again for their gradient, while the model's own activations of a
block take a few MB. Here the head is applied to a few hundred rows at a time, and each chunk's logits are dropped once
its share of loss and gradient is known.

torch's own chunked operator (`F.linear_cross_entropy`, torch 2.13) takes 1.1 to 1.2 times as long on CPUs and rounds
the loss to 16 bits under bf16. Recomputing each chunk's logits takes four matrix products in place of three.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.loss.loss_utils import ForCausalLMLoss


# Rows of logits held at once: 256 * 50,257 * 4 bytes = 51 MB. 512 are 5% faster on CPUs, 128 are 13% slower.
CHUNK_ROWS = 256
# The rows of the logits start at multiples of 64 bytes. GPT-2's 50,257 columns are an odd number, and a product that
# is written to rows which start anywhere takes up to 1.8 times as long on CPUs.
ALIGNED_COLUMNS = 16


def can_skip_logits(head: nn.Module, loss_function: Callable) -> bool:
    """Whether head and loss are the plain ones. A head with a bias, with hooks, of another class (LoRA, quantised,
    sharded), or one whose `forward` a library has replaced, and a user's own loss, have to be called instead."""
    if loss_function is not ForCausalLMLoss or type(head) is not nn.Linear or type(head.weight) is not nn.Parameter:
        return False
    state = vars(head)
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return head.bias is None and "forward" not in state and not any(state[name] for name in hooks)


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
    except that it takes the head's input and weight in place of its output. Differentiating it twice is refused.

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
    if torch.compiler.is_compiling():
        summed_loss = sum_over_chunks
    elif torch.is_grad_enabled() and (rows.requires_grad or head_weight.requires_grad):
        summed_loss = SummedLoss.apply
    else:
        summed_loss = run_chunks
    # Off, since the chunks cast for themselves: autocast would keep one cast weight, and sum its gradients in 16 bits.
    with torch.autocast(device_type, enabled=False):
        return summed_loss(rows, head_weight, targets, dtype, ignore_index) / count


def sum_over_chunks(rows: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, ignore_index: int) -> Tensor:
    """`run_chunks` in operations that `torch.compile` follows: each chunk's logits are made again in the backward
    pass."""

    def chunk_loss(chunk: Tensor, weight: Tensor, chunk_targets: Tensor) -> Tensor:
        logits = F.linear(chunk.to(dtype), weight.to(dtype)).float()
        return F.cross_entropy(logits, chunk_targets, ignore_index=ignore_index, reduction="sum")

    losses = [
        # Nothing random happens inside, so there is no random state to keep.
        checkpoint(chunk_loss, chunk, weight, chunk_targets, use_reentrant=False, preserve_rng_state=False)
        for chunk, chunk_targets in zip(rows.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True)
    ]
    return torch.stack(losses).sum()


class SummedLoss(torch.autograd.Function):
    """`run_chunks`, with gradients that are made in the forward pass, while each chunk's logits are there."""

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, ignore_index: int) -> Tensor:
        rows_gradient = torch.empty_like(rows, dtype=torch.float32)
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32)
        loss = run_chunks(rows, weight, targets, dtype, ignore_index, (rows_gradient, weight_gradient))
        ctx.save_for_backward(rows_gradient, weight_gradient)
        ctx.dtypes = rows.dtype, weight.dtype
        return loss

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError(
                "The loss without logits can be differentiated only once. To differentiate it twice, call the model "
                "with skip_logits=False."
            )
        rows_gradient, weight_gradient = ctx.saved_tensors
        # In place, as the second is as large as the embedding; torch refuses a second backward pass for that.
        gradients = rows_gradient.mul_(gradient), weight_gradient.mul_(gradient)
        return *(tensor.to(dtype) for tensor, dtype in zip(gradients, ctx.dtypes, strict=True)), None, None, None


def run_chunks(
    rows: Tensor,
    weight: Tensor,
    targets: Tensor,
    dtype: torch.dtype,
    ignore_index: int,
    gradients: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The loss of all rows, summed, as a float32 scalar.

    Args:
        rows: (N, C).
        weight: (V, C).
        targets: (N,), each in [0, V), or `ignore_index` where the row does not count.
        dtype: of the matrix products; everything else is float32.
        gradients: of rows and weight, float32, to be filled chunk by chunk: the first is overwritten, the second added
            to.
    """
    N, V = len(rows), len(weight)
    head = weight.to(dtype)
    aligned_columns = -(-V // ALIGNED_COLUMNS) * ALIGNED_COLUMNS
    buffer = torch.empty(min(CHUNK_ROWS, N), aligned_columns, device=rows.device)[:, :V]  # one for all chunks
    total = torch.zeros((), device=rows.device)
    for start in range(0, N, CHUNK_ROWS):
        chunk = rows[start : start + CHUNK_ROWS].to(dtype)  # (n, C)
        target = targets[start : start + CHUNK_ROWS, None]  # (n, 1)
        counts = target != ignore_index
        target = target.where(counts, 0)
        logits = buffer[: len(chunk)]  # (n, V)
        if dtype == torch.float32:
            torch.mm(chunk, head.T, out=logits)
        else:
            logits.copy_(chunk @ head.T)
        largest = logits.amax(dim=-1, keepdim=True)
        target_logits = logits.gather(1, target)
        unnormalised = logits.sub_(largest).exp_()
        normaliser = unnormalised.sum(dim=-1, keepdim=True)  # (n, 1)
        total += ((normaliser.log() + largest - target_logits) * counts).sum()
        if gradients is not None:
            rows_gradient, weight_gradient = gradients
            # The loss's gradient with respect to the logits is softmax - one_hot(target). Here it is that times the
            # normaliser: dividing the small factor of each product spares a pass over the logits.
            residual = unnormalised.scatter_add_(1, target, -normaliser).to(dtype)
            scale = counts / normaliser
            rows_gradient[start : start + CHUNK_ROWS] = (residual @ head) * scale
            scaled = (chunk * scale).to(dtype)
            if dtype == torch.float32:
                # In place; FLOP counters do not see addmm_.
                torch.addmm(weight_gradient, residual.T, scaled, out=weight_gradient)
            else:
                weight_gradient += residual.T @ scaled
    return total
