"""torchao, optimum-quanto and bitsandbytes: 8-bit weights in every linear layer of the blocks, and the same answers.

The layers of Hugging Face's GPT-2 are `Conv1D`, which these libraries pass over without a word.
"""

import bitsandbytes
import pytest
import torch
from optimum.quanto import QLinear
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig
from torchao.utils import TorchAOBaseTensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, QuantoConfig, TorchAoConfig


LIBRARIES = {
    "torchao": (TorchAoConfig(Int8WeightOnlyConfig()), lambda layer: isinstance(layer.weight, TorchAOBaseTensor)),
    "optimum-quanto": (QuantoConfig(weights="int8"), lambda layer: isinstance(layer, QLinear)),
    "bitsandbytes": (
        BitsAndBytesConfig(load_in_8bit=True),
        lambda layer: isinstance(layer, bitsandbytes.nn.Linear8bitLt) and layer.weight.dtype == torch.int8,
    ),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_linear_layer_is_quantised_and_the_answers_stay(library, custom_folder, answers, tokenizer):
    config, is_quantised = LIBRARIES[library]
    model = AutoModelForCausalLM.from_pretrained(custom_folder, quantization_config=config, device_map="cpu")
    linear_layers = [layer for layer in model.transformer.blocks.modules() if isinstance(layer, nn.Linear)]
    assert len(linear_layers) == 2 * 6
    assert all(is_quantised(layer) for layer in linear_layers)
    for prompt, answer in answers.items():
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        written = model.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        assert tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True) == answer
