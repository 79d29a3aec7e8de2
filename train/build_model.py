"""The model that a recipe asks for: fresh, or from earlier weights."""

from typing import Protocol

import torch
from transformers import AutoConfig, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, from_hf_gpt2
from train.settings.arguments import ModelArguments


class LoadSettings(Protocol):
    """The settings that loaded weights take; those of pre-training and of post-training have them."""

    attn_implementation: str
    embd_pdrop: float
    attn_pdrop: float
    resid_pdrop: float


def build_config(model: ModelArguments, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchConfig:
    """The configuration of a fresh model.

    Raises:
        ValueError: sizes that no model can have.
    """
    return GPT2ScratchConfig(
        vocab_size=len(tokenizer),
        n_positions=model.n_positions,
        n_embd=model.n_embd,
        n_layer=model.n_layer,
        n_head=model.n_head,
        n_inner=model.n_inner,
        initializer_range=model.initializer_range,
        embd_pdrop=model.embd_pdrop,
        attn_pdrop=model.attn_pdrop,
        resid_pdrop=model.resid_pdrop,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def build_model(
    settings: ModelArguments, tokenizer: PreTrainedTokenizerBase, sequence_length: int, seed: int
) -> PreTrainedModel:
    """A model with initial weights drawn from the seed, or with those of `init_from`.

    Raises:
        ValueError: sizes that no model can have, or a block longer than the context of `init_from`.
    """
    set_seed(seed)  # every process draws the same weights
    if settings.init_from is None:
        model = GPT2ScratchForCausalLM._from_config(
            build_config(settings, tokenizer), attn_implementation=settings.attn_implementation
        )
    else:
        model = load_model(settings.init_from, settings)
        check_length(model, "--sequence_length", sequence_length, settings.init_from)
    assert isinstance(model, GPT2ScratchForCausalLM)
    return model.to(torch.float32)  # the master weights; bf16 recipes train through autocast


def load_model(source: str, settings: LoadSettings) -> GPT2ScratchForCausalLM:
    """Earlier weights: those of a run, a checkpoint, a Hub id, or a stock GPT-2."""
    if isinstance(AutoConfig.from_pretrained(source), GPT2Config):
        model = from_hf_gpt2(source)
        model.set_attn_implementation(settings.attn_implementation)
    else:
        model = GPT2ScratchForCausalLM.from_pretrained(source, attn_implementation=settings.attn_implementation)
    _set_dropout(model, settings)
    return model


def check_length(model: GPT2ScratchForCausalLM, name: str, tokens: int, source: str) -> None:
    """Refuse sequences that a loaded model has no positions for.

    Raises:
        ValueError: with both lengths.
    """
    if tokens > model.config.n_positions:
        raise ValueError(
            f"{name} {tokens} is longer than the context of {source}, {model.config.n_positions}: lower it."
        )


def _set_dropout(model: GPT2ScratchForCausalLM, settings: LoadSettings) -> None:
    """Give loaded layers the recipe's dropout, which is a matter of the training and not of the weights."""
    for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        setattr(model.config, name, getattr(settings, name))
    rates = {
        "embedding_dropout": settings.embd_pdrop,
        "attention_dropout": settings.attn_pdrop,
        "residual_dropout": settings.resid_pdrop,
    }
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rates[name.rpartition(".")[-1]]
