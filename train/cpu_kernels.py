"""Faster training on CPUs, switched on from outside the model: skippable, as the model computes the same without it.

- attention with dropout takes a block of queries at a time, where torch's kernel holds (T, T) weights and masks;
- dropout draws 16 random bits for each value, where torch draws a float;
- the feed-forward layer makes its activations again in the backward pass.
"""

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from modeling_gpt2scratch.feed_forward import FeedForward


BLOCK = 128  # queries that attend together: their weights, 4 x 12 x 128 x 512 at GPT-2's size, stay in the caches
LEVELS = 2**16  # a value's fate in dropout is decided by 16 random bits
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
    backward pass: 300 MB less for GPT-2 124M at 4 x 512 tokens, for less than 1% of a step."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        x = checkpoint(lambda x: self.down_proj(self.activation(x)), self.up_proj(x), use_reentrant=False)
        return self.residual_dropout(x)


def fast_dropout(x: Tensor, p: float) -> Tensor:
    """`x * mask / (1 - p)`, where each mask value is 0 with probability `p`; any shape in, the same shape out.

    Identical to `F.dropout`, except that `p` is rounded to a multiple of 2^-16 (0.1 to 0.100006), which the scale makes
    up for. In return four masks come out of one 64-bit random number, and a byte a value is kept for the backward pass:
    five times as fast, and a quarter of the memory. A training step of GPT-2 124M at 4 x 512 tokens draws 190 million.
    """
    dropped_levels = min(round(p * LEVELS), LEVELS - 1)
    random_words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
    levels = random_words.view(torch.int16)[: x.numel()].view(x.shape)
    mask = (levels >= dropped_levels - LEVELS // 2).view(torch.int8)  # which torch turns into floats faster than bools
    return (x * mask).mul_(LEVELS / (LEVELS - dropped_levels))


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
    """transformers' "sdpa", except that purely causal attention with dropout goes by blocks."""
    if dropout > 0 and attention_mask is None and key.shape[2] == query.shape[2]:
        return attend_by_blocks(query, key, value, scaling, dropout), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs)


def attend_by_blocks(query: Tensor, key: Tensor, value: Tensor, scaling: float, p: float) -> Tensor:
    """Causal attention in training: a block of queries at a time, without the keys after it, and computed again for the
    backward pass with the same random numbers. (B, H, T, D) in, (B, T, H, D) out; `p` is the dropout probability."""
    blocks = []
    for start in range(0, query.shape[2], BLOCK):
        end = start + BLOCK
        block = query[:, :, start:end] * scaling
        blocks.append(checkpoint(attend, block, key[:, :, :end], value[:, :, :end], p, use_reentrant=False))
    return torch.cat(blocks, dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, p: float) -> Tensor:
    """Attention of the last queries (B, H, T, D) to all keys and values (B, H, S, D); (B, T, H, D) out."""
    T, S = query.shape[2], key.shape[2]
    scores = query @ key.transpose(-2, -1)  # (B, H, T, S)
    scores[..., S - T :].masked_fill_(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
    return (fast_dropout(scores.softmax(dim=-1), p) @ value).transpose(1, 2)
