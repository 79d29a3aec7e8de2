"""The same numbers as transformers' GPT2LMHeadModel: outputs, loss, gradients, generated tokens; in both directions."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from modeling_gpt2scratch import GPT2ScratchForCausalLM, from_hf_gpt2, save_as_hf_gpt2, to_hf_gpt2
from modeling_gpt2scratch.gelu import GELU
from modeling_gpt2scratch.hf_gpt2 import (
    config_from_hf,
    config_to_hf,
    largest_logit_difference,
    weights_from_hf,
    weights_to_hf,
)


IMPLEMENTATIONS = ["eager", "sdpa"]


@pytest.fixture
def same_models(twins):
    """Both models with the attention function of a test's choice."""

    def choose(implementation):
        for model in twins:
            model.set_attn_implementation(implementation)
        return twins

    return choose


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_logits_and_loss_agree(same_models, input_ids, implementation):
    stock, ours = same_models(implementation)
    expected, found = stock(input_ids, labels=input_ids), ours(input_ids, labels=input_ids)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-6, rtol=0)


@pytest.mark.parametrize("skip_logits", [True, False])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_gradient_of_every_parameter_agrees(same_models, input_ids, implementation, skip_logits):
    stock, ours = same_models(implementation)
    stock.train()(input_ids, labels=input_ids).loss.backward()
    ours.train()(input_ids, labels=input_ids, skip_logits=skip_logits).loss.backward()
    expected = {name: parameter.grad for name, parameter in stock.named_parameters()}
    found = weights_to_hf({name: parameter.grad for name, parameter in ours.named_parameters()})
    assert found.keys() == expected.keys()
    for name in expected:
        assert expected[name].abs().max() > 0, name
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-4, msg=lambda text, n=name: n + text)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_left_padding_agrees(same_models, input_ids, implementation):
    stock, ours = same_models(implementation)
    mask = torch.ones_like(input_ids)
    mask[0, :7] = 0
    mask[1, :1] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = stock(input_ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]
    found = ours(input_ids, attention_mask=mask, position_ids=positions).logits[mask.bool()]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_greedy_tokens_of_padded_prompts_agree(same_models, input_ids, implementation, use_cache):
    stock, ours = same_models(implementation)
    mask = torch.ones_like(input_ids)
    mask[0, :7] = 0
    settings = {"attention_mask": mask, "max_new_tokens": 30, "do_sample": False, "use_cache": use_cache}
    expected = stock.generate(input_ids, pad_token_id=0, **settings)
    found = ours.generate(input_ids, pad_token_id=0, **settings)
    assert torch.equal(found, expected)
    assert len(set(found[0, 20:].tolist())) > 3  # the models say something


@pytest.mark.slow
def test_the_full_size_agrees():
    torch.manual_seed(0)
    stock = GPT2LMHeadModel(GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
    ours = GPT2ScratchForCausalLM(config_from_hf(stock.config))
    ours.load_state_dict(weights_from_hf(stock.state_dict()))
    ids = torch.randint(50257, (1, 48))
    expected, found = stock(ids, labels=ids), ours(ids, labels=ids, skip_logits=False)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=0)


def test_weights_survive_the_way_there_and_back(tiny_model, tiny_stock):
    ours = tiny_model.state_dict()
    back = weights_from_hf(weights_to_hf(ours))
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)
    stock = tiny_stock.state_dict()
    back = weights_to_hf(weights_from_hf(stock))
    assert back.keys() == stock.keys()
    assert all(torch.equal(back[name], stock[name]) for name in stock)


def test_the_configs_of_all_four_sizes_convert_and_count(four_sizes):
    for name, (stock, parameters) in four_sizes.items():
        config = config_from_hf(stock)
        with torch.device("meta"):
            assert GPT2ScratchForCausalLM(config).num_parameters() == parameters, name
        back = config_to_hf(config)
        assert (back.n_embd, back.n_layer, back.n_head) == (stock.n_embd, stock.n_layer, stock.n_head)
        assert back.to_dict()["n_ctx"] == stock.n_positions  # llama.cpp's converter asks for it


def test_a_stock_folder_loads(tiny_stock, tmp_path, input_ids):
    tiny_stock.save_pretrained(tmp_path)
    ours = from_hf_gpt2(tmp_path)
    assert not ours.training
    assert ours.lm_head.weight is ours.transformer.token_embedding.weight
    assert ours.generation_config.eos_token_id == tiny_stock.generation_config.eos_token_id
    torch.testing.assert_close(ours(input_ids).logits, tiny_stock(input_ids).logits, atol=2e-6, rtol=1e-5)


def test_an_untied_stock_model_keeps_its_own_head(tiny_config, tmp_path, input_ids, randomise):
    stock_config = config_to_hf(tiny_config)
    stock_config.tie_word_embeddings = False
    stock = randomise(GPT2LMHeadModel(stock_config)).eval()
    stock.save_pretrained(tmp_path)
    ours = from_hf_gpt2(tmp_path)
    assert ours.lm_head.weight is not ours.transformer.token_embedding.weight
    torch.testing.assert_close(ours(input_ids).logits, stock(input_ids).logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("reorder_and_upcast_attn", True),
        ("add_cross_attention", True),
    ],
)
def test_a_variant_that_is_not_computed_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        config_from_hf(GPT2Config(**{field: value}))


def test_a_model_in_memory_comes_in_with_the_tanh_activations_other_name(tiny_config, randomise, input_ids):
    stock_config = config_to_hf(tiny_config)
    stock_config.activation_function = "gelu_pytorch_tanh"
    stock = randomise(GPT2LMHeadModel(stock_config)).eval()
    torch.testing.assert_close(from_hf_gpt2(stock)(input_ids).logits, stock(input_ids).logits, atol=2e-6, rtol=1e-5)


def test_the_exports_weights_have_openais_names(tiny_model, tokenizer, tmp_path, input_ids):
    """MLX knows no others; transformers opens them with a head."""
    weights = load_file(save_as_hf_gpt2(tiny_model, tokenizer, tmp_path) / "model.safetensors")
    assert {"wte.weight", "wpe.weight", "ln_f.weight", "h.0.attn.c_attn.weight"} <= weights.keys()
    assert not [name for name in weights if name.startswith(("transformer.", "lm_head."))]
    opened, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(opened) is GPT2LMHeadModel
    assert not any(report.values())
    torch.testing.assert_close(opened(input_ids).logits, tiny_model(input_ids).logits, atol=2e-6, rtol=1e-5)


def test_the_exports_tokenizer_states_the_models_context(tiny_model, tokenizer, tmp_path):
    save_as_hf_gpt2(tiny_model, tokenizer, tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 64
    assert tokenizer.model_max_length == 1024  # the caller's is left alone


def test_the_export_has_no_ids_beyond_the_tokenizers(tiny_config, tokenizer, tmp_path):
    """Other tools would write them: only transformers reads which are suppressed."""
    tiny_config.vocab_size = 50304
    model = GPT2ScratchForCausalLM(tiny_config).eval()
    model.generation_config.suppress_tokens = list(range(50257, 50304))
    exported = GPT2LMHeadModel.from_pretrained(save_as_hf_gpt2(model, tokenizer, tmp_path))
    assert exported.config.vocab_size == exported.lm_head.weight.shape[0] == 50257
    assert exported.generation_config.suppress_tokens is None
    assert len(model.generation_config.suppress_tokens) == 47  # the caller's is left alone
    ids = torch.arange(20).view(2, 10)
    torch.testing.assert_close(exported(ids).logits, model(ids).logits[..., :50257], atol=2e-6, rtol=1e-5)


def test_half_precision_stays_half(tiny_model):
    assert to_hf_gpt2(tiny_model.to(torch.bfloat16)).dtype == torch.bfloat16


def test_a_changed_block_is_not_exported(tiny_model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(GELU, "forward", lambda self, x: torch.relu(x))
    with pytest.raises(ValueError, match=r"differs from this model by .* nothing was written"):
        save_as_hf_gpt2(tiny_model, tokenizer, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_comparison_leaves_the_models_mode_alone(tiny_model):
    tiny_model.train()
    assert largest_logit_difference(tiny_model, to_hf_gpt2(tiny_model)) < 1e-5
    assert tiny_model.training
