"""The feed-forward layer: widens each token's vector, applies GELU, and narrows it again."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import GPT2ScratchConfig
from .dropout import Dropout
from .gelu import GELU


class FeedForward(nn.Module):
    """`down(GELU(up(x)))`, each token by itself; (B, T, C) in, (B, T, C) out, F = 4 C inside."""

    def __init__(self, config: GPT2ScratchConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.n_embd, config.feed_forward_size)
        self.activation = GELU()
        self.down_proj = nn.Linear(config.feed_forward_size, config.n_embd)
        self.down_proj.writes_to_residual = True  # type: ignore[assignment]  # starts smaller: see _init_weights
        self.residual_dropout = Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_proj(x)  # (B, T, F)
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # GELU's output is the largest tensor of a block, and quickly made again in the backward pass: 300 MB less
            # for GPT-2 124M at 4 x 512 tokens, for less than 1% of a step. A compiler decides that by itself.
            x = checkpoint(self._activate_and_narrow, x, use_reentrant=False)
        else:
            x = self._activate_and_narrow(x)
        return self.residual_dropout(x)

    def _activate_and_narrow(self, x: Tensor) -> Tensor:
        return self.down_proj(self.activation(x))  # (B, T, C)
