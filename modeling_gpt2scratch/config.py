"""Configuration of the model: the numbers that make a GPT-2."""

import functools
from collections.abc import Callable

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError

from .saved_folder import ConfigWithCode


@strict
class GPT2ScratchConfig(ConfigWithCode):
    """GPT-2's hyper-parameters under GPT-2's own names; the defaults are GPT-2 124M (Radford et al., 2019).

    Differs from `transformers.GPT2Config` in what it refuses: a wrong type or an impossible value is an error here, not
    a surprise later. The variants that no published GPT-2 uses (other activations, attention scaling by layer,
    cross-attention) are left out.

    Args:
        vocab_size: V, the number of token ids; 50,257 = 256 bytes + 50,000 merges + `<|endoftext|>`.
        n_positions: the context, in tokens: the longest sequence that has position embeddings.
        n_embd: C, the width of the residual stream.
        n_layer: the number of transformer blocks.
        n_head: H, the number of attention heads; must divide `n_embd`.
        n_inner: F, the inner width of the feed-forward layer; `None` means 4 * n_embd.
        embd_pdrop: dropout probability on the summed embeddings.
        attn_pdrop: dropout probability on the attention weights.
        resid_pdrop: dropout probability on what each layer adds to the residual stream.
        layer_norm_epsilon: added to the variance in layer norm, so that it never divides by zero.
        initializer_range: standard deviation of the initial weights; projections into the residual stream get
            `initializer_range / sqrt(2 * n_layer)` (GPT-2 report, section 2.3).
        use_cache: whether `forward` returns keys and values for generation.
        tie_word_embeddings: whether the output head shares the token embedding's weight, as in GPT-2.

    Raises:
        ValueError: a field has the wrong type or a value that no model can have; the message names field and value.
    """

    model_type = "gpt2scratch"
    keys_to_ignore_at_inference = ["past_key_values"]
    # The names that transformers' shared code (caches, generation, tensor parallelism) asks for.
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    base_model_tp_plan = {
        "token_embedding": "embedding_rowwise",
        "blocks.*.attention.q_proj": "colwise",
        "blocks.*.attention.k_proj": "colwise",
        "blocks.*.attention.v_proj": "colwise",
        "blocks.*.attention.out_proj": "rowwise",
        "blocks.*.feed_forward.up_proj": "colwise",
        "blocks.*.feed_forward.down_proj": "rowwise",
    }
    base_model_pp_plan = {
        "token_embedding": (["input_ids"], ["inputs_embeds"]),
        "blocks": (["hidden_states", "attention_mask"], ["hidden_states"]),
        "final_norm": (["hidden_states"], ["hidden_states"]),
    }
    # All else is one group, with the head: sharded apart from the embedding that it is tied to, it would learn alone.
    base_model_fsdp_plan = {"blocks.*": "free_full_weight"}

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    embd_pdrop: float | int = 0.1
    attn_pdrop: float | int = 0.1
    resid_pdrop: float | int = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    tie_word_embeddings: bool = True

    @property
    def feed_forward_size(self) -> int:
        """F: `n_inner` where it is set, else 4 * n_embd (GPT-2)."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def validate_architecture(self) -> None:
        """Check the values together; called by `@strict` after every construction and before every save."""
        sizes = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head"]
        if self.n_inner is not None:
            sizes.append("n_inner")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.n_embd % self.n_head != 0:
            raise ValueError(
                f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}: each head takes n_embd / n_head "
                "dimensions, so choose a head count that divides the width."
            )
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is a dropout probability: it must be in [0, 1).")
        for name in ("layer_norm_epsilon", "initializer_range"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in (0, 1].")


def with_value_errors(method: Callable) -> Callable:
    """Raise `ValueError` where `@strict` raises an exception family of its own."""

    @functools.wraps(method)
    def checked(self, *args, **kwargs):  # a plain function: vLLM sends pickled configs to its workers
        try:
            return method(self, *args, **kwargs)
        except StrictDataclassError as error:
            raise ValueError(str(error)) from error

    return checked


for name in ("__init__", "__setattr__", "validate"):
    setattr(GPT2ScratchConfig, name, with_value_errors(getattr(GPT2ScratchConfig, name)))
