"""Faster training on CPUs, switched on from outside the model: skippable, as the model computes the same without it.

- attention with dropout, or in 16 bits, takes a block of queries at a time, where torch's kernel holds (T, T) weights
  and masks, or is slow in the backward pass;
- dropout draws random bits at 1 ns for 64, where torch draws a float for each value, and keeps nothing: the backward
  pass draws them again;
- the feed-forward layer makes its activations again in the backward pass.
"""

import math

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from modeling_gpt2scratch.feed_forward import FeedForward


BLOCK = 128  # queries that attend together: their weights, 12 x 128 x 512 at GPT-2's size, stay in the caches
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # the integers with a number's bytes
BLOCKED_SDPA = "blocked_sdpa"  # a value of attn_implementation; no config file stores it


def use_cpu_kernels(model: PreTrainedModel) -> None:
    """Switch them on in a model that trains on a CPU without `torch.compile`.

    Modules are swapped by their class, as `fully_shard` does: weights, names, hooks and settings stay. Attention
    changes where it is SDPA.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout
        elif type(module) is FeedForward:
            module.__class__ = LeanFeedForward
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(BLOCKED_SDPA, blocked_sdpa)
        AttentionMaskInterface.register(BLOCKED_SDPA, sdpa_mask)
        model.set_attn_implementation(BLOCKED_SDPA)


class FastDropout(nn.Dropout):
    """Identical to `nn.Dropout`, except for the random numbers (see `fast_dropout`)."""

    def forward(self, x: Tensor) -> Tensor:
        return fast_dropout(x, self.p) if self.training and self.p > 0 else x


class LeanFeedForward(FeedForward):
    """Identical to `FeedForward`, except that GELU's output, the largest tensor of a block, is made again in the
    backward pass: 300 MB less for GPT-2 124M at 4 x 512 tokens, for less than 1% of a step. In 16 bits it is half as
    large and would cost 4%, so it is kept."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        x = self.up_proj(x)
        if x.dtype == torch.float32:
            x = checkpoint(lambda x: self.down_proj(self.activation(x)), x, use_reentrant=False)
        else:
            x = self.down_proj(self.activation(x))
        return self.residual_dropout(x)


def fast_dropout(x: Tensor, p: float) -> Tensor:
    """`x * mask / (1 - p)`, where each mask value is 0 with probability `p`; any shape in, the same shape out.

    Identical to `F.dropout`, except that `p` is rounded to a multiple of 2^-15 in 16 bits (0.1 to 0.100006), which the
    scale makes up for. Nothing is kept for the backward pass, which draws the mask again. A training step of GPT-2 124M
    at 4 x 512 tokens draws 190 million values.
    """
    return Dropout.apply(x, p, draw_seed())


class Dropout(torch.autograd.Function):
    """`fast_dropout` with its derivative, which is the same product."""

    @staticmethod
    def forward(ctx, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        kept, scale = draw_kept(x, p, numpy.random.SFC64(seed))
        return mask(x, kept).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        kept, scale = draw_kept(gradient, ctx.p, numpy.random.SFC64(ctx.seed))
        return mask(gradient, kept).mul_(scale), None, None


def draw_seed() -> int:
    """A seed from torch's random numbers, so that a run's seed, a resumed run and checkpointing decide it."""
    return int(torch.randint(2**62, ()))


def draw_kept(x: Tensor, p: float, bits: numpy.random.BitGenerator) -> tuple[Tensor, float]:
    """Which values of `x` dropout keeps, as integers of its shape and size, -1 (all bits) or 0, and their scale."""
    dtype = BITS[x.dtype.itemsize]
    lowest = torch.iinfo(dtype).min
    dropped_levels = min(round(p * -lowest), -lowest - 1)
    words = bits.random_raw(max(1, math.ceil(x.numel() * dtype.itemsize / 8))).view(numpy.int64)
    # Evenly in [lowest, -1]; then those below -dropped_levels stay negative, and their sign fills all bits.
    levels = torch.from_numpy(words).view(dtype)[: x.numel()].view(x.shape).bitwise_or_(lowest)
    return levels.add_(dropped_levels).bitwise_right_shift_(8 * dtype.itemsize - 1), lowest / (lowest + dropped_levels)


def mask(x: Tensor, kept: Tensor) -> Tensor:
    """A copy of `x`, zero where `kept` is: a quarter of the time of a product with numbers of another type."""
    return (x.view(kept.dtype) & kept).view(x.dtype)


def blocked_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """transformers' "sdpa", except that purely causal attention with dropout or in 16 bits goes by blocks."""
    in_16_bits = query.dtype.itemsize == 2 and torch.is_grad_enabled()
    if (dropout > 0 or in_16_bits) and attention_mask is None and key.shape[2] == query.shape[2]:
        return attend_by_blocks(query, key, value, scaling, dropout), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)


def attend_by_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float, p: float) -> Tensor:
    """Causal attention in training: a block of queries at a time, without the keys after it, and computed again for the
    backward pass with the same random numbers. (B, H, T, D) in, (B, T, H, D) out; `p` is the dropout probability."""
    with torch.autocast("cpu", enabled=False):  # which would compute the softmax in float32
        return BlockedAttention.apply(query, key, value, scaling, p, draw_seed() if p else 0)


class BlockedAttention(torch.autograd.Function):
    """Attention of all queries, and its gradients (Dao et al., 2022, appendix B.2), by text and by block."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, scaling: float, p: float, seed: int) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.scaling, ctx.p, ctx.seed = scaling, p, seed
        if not p:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling).transpose(1, 2)
        B, H, T, D = query.shape
        mixed = query.new_empty(B, T, H, D)
        bits = numpy.random.SFC64(seed)
        for b in range(B):
            for start in range(0, T, BLOCK):
                end = min(start + BLOCK, T)
                weights = causal_weights(query[b, :, start:end], key[b, :, :end], scaling)
                kept, scale = draw_kept(weights, p, bits)
                block = torch.bmm(mask(weights, kept), value[b, :, :end])  # (H, n, D)
                mixed[b, start:end] = block.mul_(scale).transpose(0, 1)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        B, H, T, D = query.shape
        query_gradient, key_gradient, value_gradient = (query.new_empty(B, T, H, D).transpose(1, 2) for _ in range(3))
        bits = numpy.random.SFC64(ctx.seed)
        for b in range(B):
            # Sums over the blocks, not in 16 bits.
            key_sums, value_sums = (
                torch.zeros(H, T, D, dtype=torch.promote_types(query.dtype, torch.float32)) for _ in "kv"
            )
            for start in range(0, T, BLOCK):
                end = min(start + BLOCK, T)
                q, k, v = query[b, :, start:end], key[b, :, :end], value[b, :, :end]
                upstream = gradient[b, start:end].transpose(0, 1)  # (H, n, D)
                weights = dropped = causal_weights(q, k, ctx.scaling)
                if ctx.p:
                    kept, scale = draw_kept(weights, ctx.p, bits)
                    upstream, dropped = upstream * scale, mask(weights, kept)
                weights_gradient = torch.bmm(upstream, v.transpose(1, 2))  # (H, n, end)
                if ctx.p:
                    weights_gradient = mask(weights_gradient, kept)
                scores_gradient = torch._softmax_backward_data(weights_gradient, weights, -1, weights.dtype)
                query_gradient[b, :, start:end] = torch.bmm(scores_gradient, k)
                key_sums[:, :end] += torch.bmm(scores_gradient.transpose(1, 2), q)
                value_sums[:, :end] += torch.bmm(dropped.transpose(1, 2), upstream)
            key_gradient[b], value_gradient[b] = key_sums.mul_(ctx.scaling), value_sums
        return query_gradient.mul_(ctx.scaling), key_gradient, value_gradient, None, None, None


def causal_weights(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention weights (H, T, S) of the last queries (H, T, D) to all keys (H, S, D)."""
    T, S = query.shape[1], key.shape[1]
    scores = torch.bmm(query, key.transpose(1, 2)).mul_(scaling)
    scores[..., S - T :] += torch.full((T, T), float("-inf"), dtype=scores.dtype).triu_(1)
    return scores.softmax(dim=-1)
