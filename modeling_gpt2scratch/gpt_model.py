"""The model's body: embeddings, a stack of transformer blocks, a final norm."""

import math
import os

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import CausalSelfAttention
from .config import GPT2ScratchConfig
from .layer_norm import LayerNorm
from .saved_folder import share_weight_files
from .transformer_block import TransformerBlock


class GPT2ScratchPreTrainedModel(PreTrainedModel):
    """The base of all GPT2Scratch models: initial weights, and the facts that transformers asks a model for."""

    config_class = GPT2ScratchConfig
    config: GPT2ScratchConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "token_embedding"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TransformerBlock"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": TransformerBlock, "attentions": CausalSelfAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """GPT-2's initialisation: weights N(0, 0.02), biases 0, norms the identity.

        The two projections of each block that write into the residual stream start smaller, by 1 / sqrt(2 n_layer): the
        stream sums 2 n_layer of them, so its variance at the output does not grow with depth (GPT-2 report, 2.3). They
        are marked, since transformers calls this for each layer, and not for the module around it.
        """
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            writes_to_residual = getattr(module, "writes_to_residual", False)
            layer_std = std / math.sqrt(2 * self.config.n_layer) if writes_to_residual else std
            init.normal_(module.weight, mean=0.0, std=layer_std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    @classmethod
    def maybe_distribute_model(cls, model, distributed_config, mesh_manager):
        """As the parent's, with head and embedding tied first, since FSDP2 would shard two matrices otherwise. Not
        under tensor parallelism, which looks up the head's weight by its own name."""
        if distributed_config is not None and distributed_config.tp_size == 1:
            model.tie_weights(recompute_mapping=False)
        return super().maybe_distribute_model(model, distributed_config, mesh_manager)

    def gather_sharded_state_dict_for_save(self, model_to_save, state_dict, distributed_config, **kwargs) -> dict:
        """As the parent's, with a tied weight once: gathered from shards, each of its names has a copy of it."""
        state = super().gather_sharded_state_dict_for_save(model_to_save, state_dict, distributed_config, **kwargs)
        tied = {} if distributed_config is None else self.all_tied_weights_keys
        return {name: weight for name, weight in state.items() if name not in tied}

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs) -> None:
        """As the parent's, with weights that whoever may read the config may read, too."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            share_weight_files(save_directory)


class GPT2ScratchModel(GPT2ScratchPreTrainedModel):
    """Token ids (B, T) to hidden states (B, T, C): GPT-2 without its head."""

    def __init__(self, config: GPT2ScratchConfig):
        super().__init__(config)
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.n_positions, config.n_embd)
        self.embedding_dropout = nn.Dropout(config.embd_pdrop)
        self.blocks = nn.ModuleList([TransformerBlock(config, layer_idx) for layer_idx in range(config.n_layer)])
        self.final_norm = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Run the body.

        Args:
            input_ids: (B, T) token ids, or `inputs_embeds` (B, T, C) in their place.
            attention_mask: (B, S), 1 for a token and 0 for padding. Padding on the left also needs `position_ids`
                (`generate` makes them), as in transformers' GPT-2.
            position_ids: (B, T); counted on from the cache where absent. Positions that start again inside a row mark
                packed documents: with no `attention_mask` and `use_cache=False`, each attends only to itself.
            past_key_values: keys and values of the tokens before, from an earlier call.
            use_cache: whether to return them, `config.use_cache` where absent.

        Returns:
            `last_hidden_state` (B, T, C) after the final norm, and `past_key_values`; on request (`output_attentions`,
            `output_hidden_states`) every layer's.

        Raises:
            ValueError: neither or both of `input_ids` and `inputs_embeds`, more tokens than `config.n_positions`, or
                `token_type_ids`, which transformers' GPT-2 would embed as tokens.
        """
        if kwargs.pop("token_type_ids", None) is not None:
            raise ValueError("There are no token types in this model: leave out token_type_ids.")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give exactly one of input_ids and inputs_embeds.")
        if inputs_embeds is None:
            inputs_embeds = self.token_embedding(input_ids)  # (B, T, C)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,  # those that are counted below never start again inside a row
        )
        if position_ids is None:
            position_ids = self._positions_after(past_key_values, inputs_embeds)
        hidden_states = self.embedding_dropout(inputs_embeds + self._embed_positions(position_ids))
        for block in self.blocks:
            hidden_states = block(
                hidden_states,
                attention_mask=causal_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
                use_cache=use_cache,
                **kwargs,
            )
        hidden_states = self.final_norm(hidden_states)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states, past_key_values=past_key_values)

    def _positions_after(self, past_key_values: Cache | None, inputs_embeds: Tensor) -> Tensor:
        """Positions (1, T) of the tokens that follow the cached ones."""
        T = inputs_embeds.shape[1]
        if self.config.n_positions < T:
            raise ValueError(f"{T} tokens {self._beyond_context}")
        past_tokens = past_key_values.get_seq_length() if past_key_values is not None else 0
        return (torch.arange(T, device=inputs_embeds.device) + past_tokens).unsqueeze(0)

    def _embed_positions(self, position_ids: Tensor) -> Tensor:
        try:
            return self.position_embedding(position_ids)
        except IndexError as error:  # accelerators are not waited for: there torch stops the program later
            found = f"Positions {position_ids.min()} to {position_ids.max()}"
            raise ValueError(f"{found} {self._beyond_context}") from error

    @property
    def _beyond_context(self) -> str:
        return (
            f"do not fit the context of {self.config.n_positions} (config.n_positions): shorten or truncate the input, "
            "or train with a longer context."
        )
