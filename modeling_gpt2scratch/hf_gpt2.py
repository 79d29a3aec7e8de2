"""Weights from and to `transformers.GPT2LMHeadModel`, the layout that every GPT-2 tool reads.

The numbers are the same; three things differ. The names. Hugging Face's GPT-2 stores linear weights as `Conv1D`,
(in, out), where `nn.Linear` has (out, in). And it keeps the query, key and value projections as one matrix of width
3 C.
"""

import copy
import os
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from .causal_lm import GPT2ScratchForCausalLM
from .config import GPT2ScratchConfig
from .loading import count_ids, drop_padding, load_whole_model
from .saved_folder import share_weight_files


# Parts of weight names: theirs, ours. Their c_attn is our q_proj, k_proj and v_proj.
NAMES = (
    ("transformer.wte.", "transformer.token_embedding."),
    ("transformer.wpe.", "transformer.position_embedding."),
    ("transformer.ln_f.", "transformer.final_norm."),
    ("transformer.h.", "transformer.blocks."),
    (".ln_1.", ".attention_norm."),
    (".ln_2.", ".feed_forward_norm."),
    (".attn.c_attn.", ".attention.q_proj."),
    (".attn.c_proj.", ".attention.out_proj."),
    (".mlp.c_fc.", ".feed_forward.up_proj."),
    (".mlp.c_proj.", ".feed_forward.down_proj."),
)
# Our config's own fields, which theirs has under the same names.
SHARED_FIELDS = tuple(GPT2ScratchConfig.__annotations__)
# The fields that only theirs has, with the values that this model computes.
COMPUTED_VALUES: dict[str, tuple] = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of one function
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
}
# The largest difference allowed between two models' logits. Sums are taken in another order, so float32 differs by
# about 1e-5; a wrong layer differs by more than 1.
TOLERANCE = 1e-3


def from_hf_gpt2(source: str | os.PathLike | GPT2LMHeadModel, **kwargs) -> GPT2ScratchForCausalLM:
    """The same model here, in evaluation mode, with its dtype and device.

    Args:
        source: a folder, a Hub id such as "openai-community/gpt2" (also -medium, -large, -xl), or a loaded model.
        kwargs: handed to its `from_pretrained` (`revision`, `dtype`, `token`, ...).

    Raises:
        ValueError: the model is a GPT-2 variant that this package does not compute, or it is not whole.
    """
    hf_model = source if isinstance(source, GPT2LMHeadModel) else load_whole_model(source, ("gpt2",), **kwargs)
    model = GPT2ScratchForCausalLM(config_from_hf(hf_model.config)).to(device=hf_model.device, dtype=hf_model.dtype)
    model.load_state_dict(weights_from_hf(hf_model.state_dict()))
    model.generation_config = hf_model.generation_config
    return model.eval()


def to_hf_gpt2(model: GPT2ScratchForCausalLM) -> GPT2LMHeadModel:
    """The same model as a `GPT2LMHeadModel`, on the same device and in the same dtype, in evaluation mode."""
    hf_model = GPT2LMHeadModel(config_to_hf(model.config)).to(device=model.device, dtype=model.dtype)
    hf_model.load_state_dict(weights_to_hf(model.state_dict()))
    hf_model.generation_config = copy.deepcopy(model.generation_config)
    return hf_model.eval()


def save_as_hf_gpt2(
    model: GPT2ScratchForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike
) -> Path:
    """Write a folder that is a plain GPT-2, without custom code, so that any tool that knows GPT-2 opens it: config,
    weights, generation config, tokenizer and chat template. Ids that the tokenizer does not have are left out.

    Raises:
        ValueError: the exported model's logits differ from this model's; nothing is written then.
    """
    hf_model = to_hf_gpt2(model)
    difference = largest_logit_difference(model, hf_model)
    if not difference <= TOLERANCE:  # also catches NaN
        raise ValueError(
            f"The exported GPT-2 differs from this model by {difference:.3g} in its logits (allowed: {TOLERANCE:.3g}), "
            "so nothing was written. A changed block computes something that Hugging Face's GPT-2 does not: publish "
            "the custom model."
        )
    drop_padding(hf_model, count_ids(tokenizer))
    # Without the prefix `transformer.`, as OpenAI's files have them: MLX knows these names only, others know both.
    hf_model.save_pretrained(folder, state_dict=hf_model.transformer.state_dict())
    share_weight_files(folder)
    tokenizer = copy.copy(tokenizer)
    tokenizer.model_max_length = model.config.n_positions
    tokenizer.save_pretrained(folder)
    return Path(folder)


@torch.no_grad()
def largest_logit_difference(model: GPT2ScratchForCausalLM, hf_model: GPT2LMHeadModel) -> float:
    """The largest absolute difference of the two models' logits on up to 256 random tokens, dropout off."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, min(model.config.n_positions, 256))
    input_ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
    was_training = model.training
    model.eval()
    difference = (model(input_ids).logits - hf_model.eval()(input_ids).logits).abs().max().item()
    model.train(was_training)
    return difference


def config_from_hf(hf_config: GPT2Config) -> GPT2ScratchConfig:
    """The same model's configuration here.

    Raises:
        ValueError: the config asks for a variant that this model does not have.
    """
    for name, values in COMPUTED_VALUES.items():
        if getattr(hf_config, name) not in values:
            raise ValueError(
                f"This GPT-2 has {name}={getattr(hf_config, name)!r}, and GPT2Scratch only computes "
                f"{name}={values[0]!r}: its outputs would differ. Load it with transformers.GPT2LMHeadModel."
            )
    return GPT2ScratchConfig(**{name: getattr(hf_config, name) for name in SHARED_FIELDS})


def config_to_hf(config: GPT2ScratchConfig) -> GPT2Config:
    """The same model's configuration as a `GPT2Config`."""
    shared = {name: getattr(config, name) for name in SHARED_FIELDS}
    fixed = {name: values[0] for name, values in COMPUTED_VALUES.items()}
    # n_ctx is GPT-2's older name of n_positions: transformers dropped it, llama.cpp's converter still reads it.
    return GPT2Config(**shared, **fixed, n_ctx=config.n_positions)


def weights_from_hf(hf_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename, transpose and split a `GPT2LMHeadModel` state dict."""
    weights = {}
    for name, tensor in hf_weights.items():
        for theirs, ours in NAMES:
            name = name.replace(theirs, ours)
        if "_proj." in name:
            tensor = tensor.t()  # which leaves biases as they are
        if ".q_proj." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                weights[name.replace(".q_proj.", f".{letter}_proj.")] = part
        else:
            weights[name] = tensor
    return weights


def weights_to_hf(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join, transpose and rename a state dict of this model; the inverse of `weights_from_hf`."""
    hf_weights = {}
    for name, tensor in weights.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue  # joined to the queries'
        if ".q_proj." in name:
            tensor = torch.cat([weights[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
        if "_proj." in name:
            tensor = tensor.t()
        for theirs, ours in NAMES:
            name = name.replace(ours, theirs)
        hf_weights[name] = tensor.contiguous()
    return hf_weights
