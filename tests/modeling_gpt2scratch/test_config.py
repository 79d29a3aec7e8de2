"""The configuration: GPT-2's defaults, and what it refuses."""

import copy

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.hf_gpt2 import config_from_hf


def test_defaults_are_gpt2_124m():
    config = GPT2ScratchConfig()
    assert (config.vocab_size, config.n_positions) == (50257, 1024)
    assert (config.n_embd, config.n_layer, config.n_head, config.feed_forward_size) == (768, 12, 12, 3072)
    assert (config.embd_pdrop, config.attn_pdrop, config.resid_pdrop) == (0.1, 0.1, 0.1)
    assert (config.layer_norm_epsilon, config.initializer_range) == (1e-5, 0.02)
    assert (config.bos_token_id, config.eos_token_id, config.tie_word_embeddings) == (50256, 50256, True)
    with torch.device("meta"):
        assert GPT2ScratchForCausalLM(config).num_parameters() == 124_439_808


@pytest.mark.parametrize("size", ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"])
def test_published_sizes_have_their_parameter_counts(four_sizes, size):
    stock_config, parameters = four_sizes[size]
    with torch.device("meta"):
        assert GPT2ScratchForCausalLM(config_from_hf(stock_config)).num_parameters() == parameters


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("n_positions", -1),
        ("n_embd", 0),
        ("n_embd", -768),
        ("n_layer", 0),
        ("n_head", 0),
        ("n_head", -12),
        ("n_head", 5),
        ("n_inner", 0),
        ("embd_pdrop", 2),
        ("attn_pdrop", 2.0),
        ("resid_pdrop", -0.1),
        ("resid_pdrop", float("nan")),
        ("layer_norm_epsilon", 0.0),
        ("layer_norm_epsilon", 1.5),
        ("initializer_range", -0.02),
    ],
)
def test_impossible_value_is_a_value_error_that_names_field_and_value(field, value):
    with pytest.raises(ValueError) as error:
        GPT2ScratchConfig(**{field: value})
    assert field in str(error.value) and str(value) in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", None),
        ("n_embd", "768"),
        ("n_layer", 2.5),
        ("n_layer", True),
        ("n_head", [12]),
        ("embd_pdrop", "0.1"),
        ("use_cache", "yes"),
        ("tie_word_embeddings", 1),
        ("pad_token_id", "<pad>"),
    ],
)
def test_wrong_type_is_a_value_error_that_names_field_and_value(field, value):
    with pytest.raises(ValueError) as error:
        GPT2ScratchConfig(**{field: value})
    assert field in str(error.value) and repr(value) in str(error.value)


def test_assignment_is_checked():
    config = GPT2ScratchConfig()
    with pytest.raises(ValueError, match="n_embd"):
        config.n_embd = "768"


def test_spoilt_config_is_not_saved(tmp_path):
    config = GPT2ScratchConfig()
    config.n_head = 5
    with pytest.raises(ValueError, match="n_head=5"):
        config.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_shared_names_read_and_write_gpt2_names():
    config = GPT2ScratchConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=8, max_position_embeddings=32)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (64, 3, 8, 32)
    config.hidden_size = 128
    assert config.n_embd == config.hidden_size == 128


def test_feed_forward_size_is_four_widths_unless_set():
    assert GPT2ScratchConfig(n_embd=64, n_head=4).feed_forward_size == 256
    assert GPT2ScratchConfig(n_embd=64, n_head=4, n_inner=100).feed_forward_size == 100


def test_config_survives_save_and_load(tmp_path):
    config = GPT2ScratchConfig(
        vocab_size=300,
        n_positions=32,
        n_embd=48,
        n_layer=2,
        n_head=6,
        n_inner=100,
        embd_pdrop=0.0,
        attn_pdrop=0.2,
        resid_pdrop=0,
        layer_norm_epsilon=1e-6,
        initializer_range=0.01,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=[2, 3],
        pad_token_id=4,
        tie_word_embeddings=False,
    )
    config.save_pretrained(tmp_path)
    loaded = GPT2ScratchConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict() == config.to_diff_dict()
    for name in GPT2ScratchConfig.__annotations__:
        assert getattr(loaded, name) == getattr(config, name) != getattr(GPT2ScratchConfig(), name), name


def test_config_can_be_copied_and_compared():
    config = GPT2ScratchConfig(n_layer=2)
    assert copy.deepcopy(config).to_dict() == config.to_dict()
    assert config.to_dict() != GPT2ScratchConfig(n_layer=3).to_dict()


@pytest.mark.parametrize("plan", ["tp_plan", "pp_plan", "fsdp_plan"])
def test_parallel_plans_name_modules_of_the_model(tiny_model, plan):
    """A rule that names nothing is not applied, and transformers only warns."""
    names = {name.replace(".0", ".*") for name, _ in tiny_model.named_modules()}
    rules = getattr(tiny_model, plan)
    assert rules and set(rules) <= names
