"""Causal multi-head self-attention: the only place where tokens look at each other.

Shape letters, here and in the whole project:
    B batch    T query positions    S key positions (cached ones included)    C n_embd
    H heads    D head dimension = C / H    F feed-forward width    V vocabulary
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .config import GPT2ScratchConfig


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, Tensor]:
    """`softmax(Q K^T / sqrt(D) + mask) V`, written out (Vaswani et al., 2017, equation 1).

    Args:
        query: (B, H, T, D).
        key, value: (B, H, S, D).
        attention_mask: added to the scores: 0 where a query may look, a very large negative number where it must not;
            broadcast to (B, H, T, S). The causal mask comes in here, too.
        scaling: 1 / sqrt(D), which keeps the scores' variance near 1, so that softmax does not saturate.

    Returns:
        The mixed values (B, T, H, D), and the attention weights (B, H, T, S), whose rows sum to 1.
    """
    scores = query @ key.transpose(-2, -1) * scaling  # (B, H, T, S)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1).to(value.dtype)
    mixed = F.dropout(weights, dropout, module.training) @ value  # (B, H, T, D)
    return mixed.transpose(1, 2).contiguous(), weights


class CausalSelfAttention(nn.Module):
    """Projects to queries, keys and values, attends within each head, and projects the heads' outputs back.

    `config._attn_implementation` chooses the attention function: "eager" is `eager_attention` above; "sdpa" (the
    default), "flash_attention_2" and others are transformers' and compute the same thing without storing (T, S)
    weights.

    Queries, keys and values have a projection each, where GPT-2 stores one of width 3 C: the sums are the same, and
    tensor parallelism, LoRA, vLLM and per-matrix optimisers can take them as they are.
    """

    def __init__(self, config: GPT2ScratchConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.n_embd // config.n_head
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        self.q_proj = nn.Linear(config.n_embd, config.n_embd)
        self.k_proj = nn.Linear(config.n_embd, config.n_embd)
        self.v_proj = nn.Linear(config.n_embd, config.n_embd)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd)
        self.out_proj.writes_to_residual = True  # type: ignore[assignment]  # starts smaller: see _init_weights
        # Held as a module although the attention function takes a number: tools switch dropout off by module type.
        self.attention_dropout = nn.Dropout(config.attn_pdrop)
        self.residual_dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C) in; (B, T, C) and the attention weights (`None` unless eager) out.

        With `past_key_values`, this step's keys and values are appended to the cached ones and the queries see both.
        """
        B, T, _ = hidden_states.shape
        # -1 and not H: under tensor parallelism each process holds a share of the heads.
        query = self.q_proj(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        key = self.k_proj(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        value = self.v_proj(hidden_states).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H, T, D)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)  # (B, H, S, D)

        attention_function = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        p = self.attention_dropout.p if self.training else 0.0
        mixed, weights = attention_function(
            self, query, key, value, attention_mask, scaling=self.scaling, dropout=p, **kwargs
        )
        mixed = mixed.reshape(B, T, -1)  # (B, T, C): the heads side by side
        return self.residual_dropout(self.out_proj(mixed)), weights
