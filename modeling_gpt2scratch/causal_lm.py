"""The language model: the body with a head that scores every token of the vocabulary as the next one."""

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import logging
from transformers.utils.generic import can_return_tuple

from .config import GPT2ScratchConfig
from .gpt_model import GPT2ScratchModel, GPT2ScratchPreTrainedModel
from .next_token_loss import can_skip_logits, next_token_loss


logger = logging.get_logger(__name__)


class GPT2ScratchForCausalLM(GPT2ScratchPreTrainedModel, GenerationMixin):
    """GPT-2 with its tied head: the matrix that embeds tokens also scores them; `generate()` writes text."""

    _tied_weights_keys = {"lm_head.weight": "transformer.token_embedding.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}

    def __init__(self, config: GPT2ScratchConfig):
        super().__init__(config)
        self.transformer = GPT2ScratchModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Score next tokens; with `labels`, also compute the loss.

        Arguments as in `GPT2ScratchModel.forward`, and:
            labels: (B, T), the input ids again (shifting is done here), -100 where no loss is wanted.
            logits_to_keep: only the last so many positions' logits, or those at the given indices; 0 means all.
            skip_logits: compute the loss without ever holding the logits of all positions (`logits` is then `None`).
                By default so in training with labels, since (B, T, V) numbers are most of a small model's memory.
            kwargs: handed on to the loss (`num_items_in_batch`, `shift_labels`, `ignore_index`) and to attention.

        Returns:
            `loss` (scalar, nats per token), `logits` (B, T, V), `past_key_values`.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state  # (B, T, C)

        has_labels = labels is not None or kwargs.get("shift_labels") is not None
        skip_logits = has_labels and (self.training if skip_logits is None else skip_logits)
        loss = logits = None
        if skip_logits and can_skip_logits(self.lm_head, self.loss_function):
            loss = next_token_loss(hidden_states, self.lm_head.weight, labels, **kwargs)
        else:
            logits = self.lm_head(keep_positions(hidden_states, logits_to_keep))  # (B, T, V)
            if has_labels:
                loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _prepare_generated_length(self, generation_config, *, input_ids_length, inputs_tensor, **kwargs):
        """End generation where the context ends, as the model has no position for the token after that.

        Raises:
            ValueError: the prompt alone is longer than the context.
        """
        context, prompt = self.config.n_positions, inputs_tensor.shape[1]
        if prompt > context:
            raise ValueError(
                f"A prompt of {prompt} tokens does not fit the context of {context} (config.n_positions): shorten it, "
                "or keep its end with tokenizer(..., truncation=True) and tokenizer.truncation_side='left'."
            )
        generation_config = super()._prepare_generated_length(
            generation_config, input_ids_length=input_ids_length, inputs_tensor=inputs_tensor, **kwargs
        )
        # The last token is only written and not read again, hence + 1. A prompt of embeddings has no input ids.
        longest = input_ids_length + context - prompt + 1
        if generation_config.max_length > longest:
            logger.warning_once(f"Generation ends where the context of {context} tokens (config.n_positions) is full.")
            generation_config.max_length = longest
        return generation_config


def keep_positions(hidden_states: Tensor, positions: int | Tensor) -> Tensor:
    """The hidden states to score: the last so many (0 means all), or those at given positions.

    Equal to `transformers.modeling_utils.slice_logits_to_keep`, which the transformers that vLLM 0.32 pins (5.19) does
    not have. `positions` as a tensor is (T',) for every row, (B, T') for each row, or a boolean (B, T), whose choice
    comes back flat.
    """
    if isinstance(positions, int):
        return hidden_states[:, slice(-positions, None)]
    if positions.ndim == 1:
        return hidden_states[:, positions]
    if positions.dtype == torch.bool:
        return hidden_states[positions]
    return torch.take_along_dim(hidden_states, positions[..., None], dim=1)
