"""The feed-forward layer: widens each token's vector, applies GELU, and narrows it again."""

from torch import Tensor, nn

from .config import GPT2ScratchConfig
from .gelu import GELU


class FeedForward(nn.Module):
    """`down(GELU(up(x)))`, each token by itself; (B, T, C) in, (B, T, C) out, F = 4 C inside."""

    def __init__(self, config: GPT2ScratchConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.n_embd, config.feed_forward_size)
        self.activation = GELU()
        self.down_proj = nn.Linear(config.feed_forward_size, config.n_embd)
        self.down_proj.writes_to_residual = True  # type: ignore[assignment]  # starts smaller: see _init_weights
        self.residual_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.up_proj(x))  # (B, T, F)
        return self.residual_dropout(self.down_proj(x))  # (B, T, C)
