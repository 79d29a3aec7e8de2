"""The model that a recipe asks for: fresh, or from earlier weights."""

import torch
from transformers import AutoConfig, GPT2Config, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, from_stock_gpt2
from train.recipe import Recipe


def build_config(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> GPT2ScratchConfig:
    """The configuration of a fresh model.

    Raises:
        ValueError: sizes that no model can have.
    """
    model = recipe.model
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


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model with initial weights drawn from the recipe's seed, or with those of `init_from`.

    Raises:
        ValueError: sizes that no model can have, or a block longer than the context of `init_from`.
    """
    set_seed(recipe.training.seed)  # every process draws the same weights
    if recipe.model.init_from is None:
        model = GPT2ScratchForCausalLM._from_config(
            build_config(recipe, tokenizer), attn_implementation=recipe.model.attn_implementation
        )
    else:
        model = _load_model(recipe.model.init_from, recipe)
    assert isinstance(model, GPT2ScratchForCausalLM)
    return model.to(torch.float32)  # the master weights; bf16 recipes train through autocast


def _load_model(source: str, recipe: Recipe) -> GPT2ScratchForCausalLM:
    if isinstance(AutoConfig.from_pretrained(source), GPT2Config):
        model = from_stock_gpt2(source)
        model.set_attn_implementation(recipe.model.attn_implementation)
    else:
        model = GPT2ScratchForCausalLM.from_pretrained(source, attn_implementation=recipe.model.attn_implementation)
    if recipe.data.block_size > model.config.n_positions:
        raise ValueError(
            f"--block_size {recipe.data.block_size} is longer than the context of {source}, "
            f"{model.config.n_positions}: lower it."
        )
    _set_dropout(model, recipe)
    return model


def _set_dropout(model: GPT2ScratchForCausalLM, recipe: Recipe) -> None:
    """Give loaded layers the recipe's dropout, which is a matter of the training and not of the weights."""
    for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        setattr(model.config, name, getattr(recipe.model, name))
    rates = {
        "embedding_dropout": recipe.model.embd_pdrop,
        "attention_dropout": recipe.model.attn_pdrop,
        "residual_dropout": recipe.model.resid_pdrop,
    }
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rates[name.rpartition(".")[-1]]
