"""LoRA by TRL's `ModelConfig` and `get_peft_config`."""

from contextlib import nullcontext

import pytest
from peft import get_peft_model
from trl.trainer.model_config import ModelConfig

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.post_training.settings.arguments import LoraArguments
from train.post_training.settings.lora import build_adapter_config, refuse_tied


LINEAR = {"q_proj", "k_proj", "v_proj", "out_proj", "up_proj", "down_proj"}


def test_names_and_defaults_are_those_of_trl():
    theirs = vars(ModelConfig())
    assert vars(LoraArguments()).items() <= theirs.items()


def test_all_weights_are_trained_unless_adapters_are_asked_for():
    assert build_adapter_config(LoraArguments()) is None


@pytest.mark.parametrize(
    ("names", "adapted"),
    [
        (None, LINEAR),
        (["all-linear"], LINEAR),
        (["q_proj"], {"q_proj"}),
        (["q_proj", "v_proj"], {"q_proj", "v_proj"}),
    ],
    ids=("unset", "all-linear", "one", "two"),
)
def test_the_named_layers_get_an_adapter(names, adapted):
    lora = LoraArguments(use_peft=True, lora_r=2, lora_alpha=6, lora_target_modules=names)
    model = GPT2ScratchForCausalLM(GPT2ScratchConfig(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    model = get_peft_model(model, build_adapter_config(lora))
    found = {
        name.split(".lora_A")[0].rpartition(".")[2]: module
        for name, module in model.named_modules()
        if "lora_A." in name
    }
    assert found.keys() == adapted
    assert {module.out_features for module in found.values()} == {2}
    assert model.peft_config["default"].lora_alpha == 6


@pytest.mark.parametrize(
    ("names", "tied", "message"),
    [
        (["token_embedding"], True, "transformer.token_embedding shares its weight"),
        (["q_proj", "lm_head"], True, "lm_head shares its weight"),
        (["token_embedding", "lm_head"], False, None),
        (["position_embedding"], True, None),
        (None, True, None),
        (["nothing"], True, "not found in the base model"),
    ],
    ids=str,
)
def test_adapters_on_a_shared_weight_are_refused(names, tied, message):
    lora = LoraArguments(use_peft=True, lora_target_modules=names)
    sizes = {"vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    model = GPT2ScratchForCausalLM(GPT2ScratchConfig(**sizes, tie_word_embeddings=tied))
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        refuse_tied(model, lora)
