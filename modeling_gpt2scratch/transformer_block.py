"""One transformer block: attention, then feed-forward, each added to the residual stream."""

from torch import Tensor
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention import CausalSelfAttention
from .config import GPT2ScratchConfig
from .feed_forward import FeedForward
from .layer_norm import LayerNorm


class TransformerBlock(GradientCheckpointingLayer):
    """Pre-norm block (GPT-2 report, section 2.3); (B, T, C) in, (B, T, C) out.

    The norms sit on the branches, so the residual stream runs from the embeddings to the last norm untouched.

    A `GradientCheckpointingLayer` recomputes its activations in the backward pass when the Trainer asks for that.
    """

    def __init__(self, config: GPT2ScratchConfig, layer_idx: int):
        super().__init__()
        self.attention_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attention = CausalSelfAttention(config, layer_idx)
        self.feed_forward_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> Tensor:
        attended, _ = self.attention(
            self.attention_norm(hidden_states),
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        hidden_states = hidden_states + attended
        return hidden_states + self.feed_forward(self.feed_forward_norm(hidden_states))
