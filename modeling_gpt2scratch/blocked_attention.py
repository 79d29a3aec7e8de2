"""Causal attention with dropout on CPUs, without ever holding the (T, S) weights of all queries."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .dropout import dropout


# Queries that attend together: their weights, 4 x 12 x 128 x 512 at GPT-2's size, stay in the caches.
BLOCK = 128


def suits_blocks(query: Tensor, key: Tensor, attention_mask: Tensor | None, p: float) -> bool:
    """Whether `blocked_attention` computes what is asked for, and is the fastest to do so."""
    is_causal_only = attention_mask is None and key.shape[2] == query.shape[2]
    return p > 0 and is_causal_only and query.device.type == "cpu" and not torch.compiler.is_compiling()


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, p: float) -> Tensor:
    """`eager_attention` with a causal mask, in training.

    A block of queries at a time, without the keys after it, and computed again for the backward pass with the same
    random numbers.

    Args:
        query, key, value: (B, H, T, D).
        p: the dropout probability.

    Returns:
        (B, T, H, D).
    """
    T = query.shape[2]
    blocks = []
    for start in range(0, T, BLOCK):
        end = min(start + BLOCK, T)
        seen = slice(0, end)
        blocks.append(
            checkpoint(
                attend,
                *(query[:, :, start:end] * scaling, key[:, :, seen], value[:, :, seen], p),
                use_reentrant=False,
            )
        )
    return torch.cat(blocks, dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, p: float) -> Tensor:
    """Attention of the last queries (B, H, T, D) to all keys and values (B, H, S, D); (B, T, H, D) out."""
    T, S = query.shape[2], key.shape[2]
    scores = query @ key.transpose(-2, -1)  # (B, H, T, S)
    after = torch.ones(T, S, dtype=torch.bool).triu(S - T + 1)
    weights = scores.masked_fill_(after, float("-inf")).softmax(dim=-1)
    return (dropout(weights, p, training=True) @ value).transpose(1, 2)
