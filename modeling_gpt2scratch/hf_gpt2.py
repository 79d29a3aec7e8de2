"""Weights from and to `transformers.GPT2LMHeadModel`, the layout that every GPT-2 tool reads.

The numbers are the same; three things differ. The names. Stock GPT-2 stores linear weights as `Conv1D`, (in, out),
where `nn.Linear` has (out, in). And it keeps the query, key and value projections as one matrix of width 3 C.
"""

import os
import re
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from .causal_lm import GPT2ScratchForCausalLM
from .config import GPT2ScratchConfig
from .file_modes import share_weight_files


# Stock name, our name; a linear layer's weight is transposed on the way.
_EMBEDDINGS_AND_NORMS = {
    "transformer.wte": "transformer.token_embedding",
    "transformer.wpe": "transformer.position_embedding",
    "transformer.ln_f": "transformer.final_norm",
    "ln_1": "attention_norm",
    "ln_2": "feed_forward_norm",
}
_LINEAR_LAYERS = {
    "attn.c_proj": "attention.out_proj",
    "mlp.c_fc": "feed_forward.up_proj",
    "mlp.c_proj": "feed_forward.down_proj",
}
_STOCK_QKV = "attn.c_attn"
_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")

# The fields that both configs have, and the stock fields that this model has no counterpart for, with the only value
# that it computes.
_SHARED_FIELDS = (
    "vocab_size",
    "n_positions",
    "n_embd",
    "n_layer",
    "n_head",
    "n_inner",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
    "layer_norm_epsilon",
    "initializer_range",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "tie_word_embeddings",
)
_FIXED_STOCK_FIELDS = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}


def config_from_hf(stock: GPT2Config) -> GPT2ScratchConfig:
    """The same model's configuration here.

    Raises:
        ValueError: the stock config asks for a variant that this model does not have.
    """
    for name, value in _FIXED_STOCK_FIELDS.items():
        if getattr(stock, name) != value:
            raise ValueError(
                f"This GPT-2 has {name}={getattr(stock, name)!r}, and GPT2Scratch only computes {name}={value!r}: "
                "its outputs would differ. Load it with transformers.GPT2LMHeadModel."
            )
    return GPT2ScratchConfig(**{name: getattr(stock, name) for name in _SHARED_FIELDS})


def config_to_hf(config: GPT2ScratchConfig) -> GPT2Config:
    """The same model's stock configuration."""
    shared = {name: getattr(config, name) for name in _SHARED_FIELDS}
    # n_ctx is GPT-2's older name of n_positions: transformers dropped it, llama.cpp's converter still reads it.
    return GPT2Config(**shared, **_FIXED_STOCK_FIELDS, n_ctx=config.n_positions)


def weights_from_hf(stock_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, transpose and split a `GPT2LMHeadModel` state dict."""
    weights = {}
    for stock_name, tensor in stock_weights.items():
        block, layer, kind = _split_name(stock_name)
        block = block.replace("transformer.h.", "transformer.blocks.")
        if layer == _STOCK_QKV:
            # (C, 3 C) or (3 C,): queries, keys and values side by side.
            for ours, part in zip(_QKV, tensor.chunk(3, dim=-1), strict=True):
                weights[f"{block}{ours}.{kind}"] = part.t() if kind == "weight" else part
        elif layer in _LINEAR_LAYERS:
            weights[f"{block}{_LINEAR_LAYERS[layer]}.{kind}"] = tensor.t() if kind == "weight" else tensor
        else:
            weights[f"{block}{_EMBEDDINGS_AND_NORMS.get(layer, layer)}.{kind}"] = tensor
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def weights_to_hf(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `weights_from_hf`."""
    stock_linear = {ours: stock for stock, ours in _LINEAR_LAYERS.items()}
    stock_other = {ours: stock for stock, ours in _EMBEDDINGS_AND_NORMS.items()}
    stock_weights = {}
    for name, tensor in weights.items():
        block, layer, kind = _split_name(name)
        stock_block = block.replace("transformer.blocks.", "transformer.h.")
        if layer == _QKV[0]:
            parts = [weights[f"{block}{ours}.{kind}"] for ours in _QKV]
            joined = torch.cat(parts, dim=0)  # (3 C, C) or (3 C,)
            stock_weights[f"{stock_block}{_STOCK_QKV}.{kind}"] = joined.t() if kind == "weight" else joined
        elif layer in stock_linear:
            stock_weights[f"{stock_block}{stock_linear[layer]}.{kind}"] = tensor.t() if kind == "weight" else tensor
        elif layer not in _QKV:
            stock_weights[f"{stock_block}{stock_other.get(layer, layer)}.{kind}"] = tensor
    return {name: tensor.contiguous() for name, tensor in stock_weights.items()}


def from_hf_gpt2(name_or_path: str | os.PathLike, **kwargs) -> GPT2ScratchForCausalLM:
    """Load any stock GPT-2: a folder, or a Hub id such as "openai-community/gpt2" (also -medium, -large, -xl).

    Args:
        kwargs: handed to `GPT2LMHeadModel.from_pretrained` (`revision`, `dtype`, `token`, ...).

    Raises:
        ValueError: the model is a GPT-2 variant that this package does not compute (see `config_from_hf`).
    """
    stock = GPT2LMHeadModel.from_pretrained(name_or_path, **kwargs)
    model = GPT2ScratchForCausalLM(config_from_hf(stock.config)).to(stock.dtype)
    model.load_state_dict(weights_from_hf(stock.state_dict()))
    model.generation_config = stock.generation_config
    return model.eval()


def to_hf_gpt2(model: GPT2ScratchForCausalLM) -> GPT2LMHeadModel:
    """The same model as a `GPT2LMHeadModel`, on the same device and in the same dtype, in evaluation mode."""
    stock = GPT2LMHeadModel(config_to_hf(model.config)).to(device=model.device, dtype=model.dtype)
    stock.load_state_dict(weights_to_hf(model.state_dict()))
    stock.generation_config = model.generation_config
    return stock.eval()


def save_as_hf_gpt2(
    model: GPT2ScratchForCausalLM,
    folder: str | os.PathLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    tolerance: float = 1e-3,
) -> Path:
    """Write a folder that is a plain GPT-2: no custom code, so any tool that knows GPT-2 opens it.

    Args:
        folder: written to only after the check below has passed.
        tokenizer: saved beside the weights when given.
        tolerance: the largest difference allowed between the two models' logits on random tokens. Sums are taken in
            another order, so float32 differs by about 1e-5; a wrong layer differs by more than 1.

    Raises:
        ValueError: the exported model's logits differ from this model's by more than `tolerance`.
    """
    stock = to_hf_gpt2(model)
    difference = largest_logit_difference(model, stock)
    if not difference <= tolerance:  # also catches NaN
        raise ValueError(
            f"The exported GPT-2 differs from this model by {difference:.3g} in its logits (allowed: {tolerance:.3g}), "
            "so nothing was written. A changed block computes something that stock GPT-2 does not: publish the custom "
            "model."
        )
    stock.save_pretrained(folder)
    share_weight_files(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return Path(folder)


@torch.no_grad()
def largest_logit_difference(model: GPT2ScratchForCausalLM, stock: GPT2LMHeadModel) -> float:
    """The largest absolute difference of the two models' logits on a full context of random tokens, dropout off."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, min(model.config.n_positions, 256))
    input_ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
    was_training = model.training
    model.eval()
    difference = (model(input_ids).logits - stock.eval()(input_ids).logits).abs().max().item()
    model.train(was_training)
    return difference


def _split_name(name: str) -> tuple[str, str, str]:
    """Split a weight's name into block prefix ("" outside blocks), layer, and "weight" or "bias"."""
    match = re.fullmatch(r"(transformer\.(?:h|blocks)\.\d+\.)?(.+)\.(weight|bias)", name)
    assert match is not None, name
    block, layer, kind = match.groups()
    return block or "", layer, kind
