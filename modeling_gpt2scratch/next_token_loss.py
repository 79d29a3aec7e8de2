"""The language-modelling loss, computed without holding the logits of all positions: the one file to skip.

`F.cross_entropy(head(hidden_states), labels)` is all that it computes. The logits of a batch are B * T * V numbers: for
GPT-2 at 4 x 512 tokens 412 MB in float32, and as much again for their gradient, while the model's own activations of a
block take a few MB. Here the head is applied to some rows at a time, and each chunk's logits are dropped once its share
of loss and gradient is known: three matrix products, as with all logits.

`torch.compile` sees one operator and does not look into it: it would unroll the loop, and compile a chunk at a time.

torch's own chunked loss (`F.linear_cross_entropy`, torch 2.13) breaks the graph, rounds the loss to 16 bits under bf16
and takes 1.1 to 1.2 times as long on CPUs. Liger's does the same as this one in a kernel for GPUs; cut-cross-entropy
holds no logits at all, and makes them again in the backward pass.
"""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.loss.loss_utils import ForCausalLMLoss


# Rows of logits held at once. CPUs: 51 MB, 256 * 50,257 * 4 bytes; in 16 bits four times as many rows, 103 MB, as the
# sums of gradients in float32 cost more there. In float32, 512 are 5% faster, 128 are 13% slower.
# Accelerators: logits and their log-probabilities, 2,048 * 50,257 * 8 bytes = 0.8 GB at most. A chunk is then half a
# teraFLOP, about a millisecond of an H100, against the microseconds in which each of its dozen kernels starts.
CHUNK_ROWS, CHUNK_ROWS_ON_ACCELERATORS = 256, 2048
# The rows of the logits start at multiples of 128 bytes. GPT-2's 50,257 columns are an odd number, and a product that
# is written to rows which start anywhere takes up to 1.8 times as long on CPUs. On accelerators the head has rows of
# zeros up to 50,304: matrix units are slow at odd sizes. (nanoGPT and llm.c fill the vocabulary itself up for that.)
ALIGNED_COLUMNS = 64
# On CPUs, softmax takes so many rows at a time, and in 16 bits a product so many of the head's, as the caches hold.
CACHED_ROWS, CACHED_HEAD_ROWS = 16, 4096
# float16 loses digits below 6e-5, and probabilities begin at 1 / V = 2e-5: they are multiplied by this, and the hidden
# states divided. It ends at 65,504: a sum over a chunk's rows overflows where it has 2,000 times the same label and
# hidden states beyond 32.
FLOAT16_SCALE = 2.0**10


def chunk_rows(device_type: str, itemsize: int) -> int:
    """Rows of logits that are held at once on a device, where a number of them has so many bytes."""
    on_cpu = 4 * CHUNK_ROWS if itemsize == 2 else CHUNK_ROWS
    return on_cpu if device_type == "cpu" else CHUNK_ROWS_ON_ACCELERATORS


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
    with_gradients = torch.is_grad_enabled() and (rows.requires_grad or head_weight.requires_grad)
    in_eager_mode = SummedLoss.apply if with_gradients else run_chunks
    summed_loss = opaque_loss if torch.compiler.is_compiling() else in_eager_mode
    return summed_loss(rows, head_weight, targets, dtype, ignore_index, with_gradients)[0] / count


def run_chunks(
    rows: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, ignore_index: int, with_gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of all rows, summed, and its gradients, made while each chunk's logits are there.

    Args:
        rows: (N, C).
        weight: (V, C).
        targets: (N,), each in [0, V), or `ignore_index` where the row does not count.
        dtype: of the matrix products; everything else is float32.
        with_gradients: or return empty ones.

    Returns:
        In float32: the loss, a scalar; its gradients with respect to rows (N, C) and weight (V, C).
    """
    total, rows_gradient, weight_gradient = empty_results(rows, weight, targets, dtype, ignore_index, with_gradients)
    total.zero_()
    weight_gradient.zero_()
    N, V, size = len(rows), len(weight), chunk_rows(rows.device.type, dtype.itemsize)
    on_cpu = rows.device.type == "cpu" and dtype != torch.float16
    aligned_columns = -(-V // ALIGNED_COLUMNS) * ALIGNED_COLUMNS
    if on_cpu:
        # One for all chunks. Zeros, since products in bf16 read two columns at a time, the one beyond an odd last, too.
        buffer = torch.zeros(min(size, N), aligned_columns, dtype=dtype)[:, :V]
    # Off, since the chunks cast for themselves: autocast would keep one cast weight, and sum its gradients in 16 bits.
    with torch.autocast(rows.device.type, enabled=False):
        head = weight.to(dtype) if on_cpu else F.pad(weight.to(dtype), (0, 0, 0, aligned_columns - V))
        for start in range(0, N, size):
            chunk = rows[start : start + size].to(dtype)  # (n, C)
            target = targets[start : start + size, None]  # (n, 1)
            counts = target != ignore_index
            target = target.where(counts, 0)
            if on_cpu:
                logits = torch.mm(chunk, head.T, out=buffer[: len(chunk)])  # (n, V)
                losses, residual, divisor = score_on_cpu(logits, target)
            else:
                logits = chunk @ head.T
                logits[:, V:] = -torch.inf  # the probability of what only fills up is zero
                losses, residual, divisor = score_on_accelerator(logits, target)
            total += (losses * counts).sum()
            if with_gradients:
                scale = counts / divisor
                rows_gradient[start : start + size] = (residual @ head) * scale
                scaled = (chunk * scale).to(dtype)
                if dtype == torch.float32:
                    # In place; FLOP counters do not see addmm_.
                    torch.addmm(weight_gradient, residual.T[:V], scaled, out=weight_gradient)
                else:
                    part = CACHED_HEAD_ROWS if on_cpu else aligned_columns
                    for sums, columns in zip(weight_gradient.split(part), residual.split(part, dim=1), strict=True):
                        sums += (columns.T @ scaled)[: len(sums)]
    return total, rows_gradient, weight_gradient


def score_on_cpu(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
    """The loss of each row, and its gradient softmax(logits) - one_hot(target), in few passes over memory.

    Args:
        logits: (n, V); overwritten.
        target: (n, 1).

    Returns:
        The losses (n, 1); a multiple of the gradients (n, V); and the divisor (n, 1) that makes them the gradients.
    """
    losses, normalisers = [], []
    # Float32 logits are overwritten in place; in 16 bits all parts go through one buffer, which stays in the caches.
    in_float32 = logits.new_empty(CACHED_ROWS, logits.shape[1], dtype=torch.float32)
    for few, target_of_few in zip(logits.split(CACHED_ROWS), target.split(CACHED_ROWS), strict=True):
        unnormalised = few if few.dtype == torch.float32 else in_float32[: len(few)].copy_(few)
        largest = unnormalised.amax(dim=-1, keepdim=True)
        target_logits = unnormalised.gather(1, target_of_few)
        normaliser = unnormalised.sub_(largest).exp_().sum(dim=-1, keepdim=True)
        losses.append(normaliser.log() + largest - target_logits)
        normalisers.append(normaliser)
        few.copy_(unnormalised.scatter_add_(1, target_of_few, -normaliser))
    # Dividing the small factor of each product that follows spares a pass over the logits.
    return torch.cat(losses), logits, torch.cat(normalisers)


def score_on_accelerator(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
    """The same with fewer passes over memory, which is what this takes there: torch's kernels for softmax read 16 bits,
    reckon in 32 and write 16. Right for float16 on any device."""
    if logits.dtype == torch.float16:
        scale = FLOAT16_SCALE
        log_probabilities = F.log_softmax(logits, dim=-1, dtype=torch.float32)
        target_log = log_probabilities.gather(1, target)
        residual = log_probabilities.exp_().mul_(scale).to(logits.dtype)
    else:
        scale = 1.0
        target_log = F.log_softmax(logits, dim=-1, dtype=torch.float32).gather(1, target)
        residual = torch.softmax(logits, dim=-1)
    return -target_log, residual.scatter_(1, target, (target_log.expm1() * scale).to(residual.dtype)), scale


def empty_results(
    rows: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, ignore_index: int, with_gradients: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The three results of `run_chunks`, without their values: what `torch.compile` has to know of them."""
    N, V = (rows.shape[0], weight.shape[0]) if with_gradients else (0, 0)  # len() would fix the number
    C, device = rows.shape[1], rows.device
    total, rows_gradient, weight_gradient = (
        torch.empty(shape, dtype=torch.float32, device=device) for shape in ((), (N, C), (V, C))
    )
    return total, rows_gradient, weight_gradient


def keep_gradients(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    rows, weight, *_ = inputs
    _, *gradients = output
    ctx.save_for_backward(*gradients)
    ctx.dtypes = rows.dtype, weight.dtype


def scale_gradients(ctx, gradient: Tensor, *_) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            "The loss without logits can be differentiated only once. To differentiate it twice, call the model with "
            "skip_logits=False."
        )
    # In place, as the second is as large as the embedding; torch refuses a second backward pass for that.
    scaled = [kept.mul_(gradient).to(dtype) for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)]
    return *scaled, None, None, None, None


class SummedLoss(torch.autograd.Function):
    """`run_chunks` with its derivative."""

    @staticmethod
    def forward(ctx, *inputs):
        output = run_chunks(*inputs)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        keep_gradients(ctx, inputs, output)
        return output

    backward = staticmethod(scale_gradients)


# The same for `torch.compile`, which does not look inside. Named after the module: a process may open several saved
# models, each with a copy of this file.
opaque_loss = torch.library.custom_op(re.sub(r"\W", "_", __name__) + "::summed_loss", run_chunks, mutates_args=())
opaque_loss.register_fake(empty_results)
opaque_loss.register_autograd(scale_gradients, setup_context=keep_gradients)
