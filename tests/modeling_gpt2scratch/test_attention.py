"""Attention: the written-out formula, causality shown by gradients, padding, dropout."""

import math

import pytest
import torch
from torch import nn

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from modeling_gpt2scratch.attention import CausalSelfAttention, eager_attention


IMPLEMENTATIONS = ["eager", "sdpa"]


def attend_by_loops(query, key, value):
    """Causal attention with one loop per head and query position, straight from the paper."""
    mixed = torch.zeros_like(query)
    B, H, T, D = query.shape
    for b in range(B):
        for h in range(H):
            for t in range(T):
                scores = key[b, h, : t + 1] @ query[b, h, t] / math.sqrt(D)
                weights = scores.exp() / scores.exp().sum()
                mixed[b, h, t] = weights @ value[b, h, : t + 1]
    return mixed.transpose(1, 2)


def test_eager_attention_equals_loops():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8, generator=generator, dtype=torch.float64)
    mask = torch.full((7, 7), -1e30, dtype=torch.float64).triu(1)
    mixed, _ = eager_attention(nn.Identity(), query, key, value, mask, scaling=8**-0.5)
    torch.testing.assert_close(mixed, attend_by_loops(query, key, value), atol=1e-13, rtol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_layer_equals_loops_over_its_heads(tiny_config, randomise, implementation):
    """Through the whole layer: which slice of the width is which head, the scale, and the mask."""
    tiny_config._attn_implementation = implementation
    layer = randomise(CausalSelfAttention(tiny_config, layer_idx=0)).double()
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heads = [
        torch.stack([proj(x)[..., 8 * head : 8 * head + 8] for head in range(4)], dim=1)
        for proj in (layer.q_proj, layer.k_proj, layer.v_proj)
    ]
    expected = layer.out_proj(attend_by_loops(*heads).reshape(2, 7, 32))
    mask = torch.full((1, 1, 7, 7), -1e30, dtype=torch.float64).triu(1)
    torch.testing.assert_close(layer(x, attention_mask=mask)[0], expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_position_sees_a_later_one(tiny_model, implementation):
    """d output(t) / d input(s) is exactly zero for every s > t, and not zero for any s <= t."""
    tiny_model.set_attn_implementation(implementation)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, 12, 32, generator=generator).requires_grad_()
    direction = torch.randn(32, generator=generator)  # the plain sum of normed numbers has next to no gradient
    for t in range(12):
        output = tiny_model.transformer(inputs_embeds=embeddings).last_hidden_state[0, t] @ direction
        (gradient,) = torch.autograd.grad(output, embeddings)
        influence = gradient[0].abs().sum(dim=-1)
        assert (influence[t + 1 :] == 0).all(), t
        assert (influence[: t + 1] > 1e-6).all(), t


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_has_no_influence(tiny_model, implementation, side):
    tiny_model.set_attn_implementation(implementation)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(1, 10, 32, generator=generator).requires_grad_()
    direction = torch.randn(32, generator=generator)
    padding = slice(0, 3) if side == "left" else slice(7, 10)
    text = slice(3, 10) if side == "left" else slice(0, 7)
    mask = torch.ones(1, 10, dtype=torch.long)
    mask[:, padding] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    outputs = tiny_model.transformer(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions)
    (gradient,) = torch.autograd.grad((outputs.last_hidden_state[0, text] @ direction).sum(), embeddings)
    assert (gradient[0, padding] == 0).all()
    assert (gradient[0, text].abs().sum(dim=-1) > 1e-6).all()


def test_eager_weights_are_distributions_over_the_past(tiny_model, input_ids):
    tiny_model.set_attn_implementation("eager")
    attentions = tiny_model(input_ids, output_attentions=True).attentions
    assert len(attentions) == 3
    for weights in attentions:
        assert weights.shape == (3, 4, 20, 20)
        assert torch.equal(weights, weights.tril())
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 20), atol=1e-6, rtol=0)
        assert (weights.diagonal(dim1=-2, dim2=-1) > 0).all()


def test_eager_weights_on_padding_are_zero(tiny_model, input_ids):
    tiny_model.set_attn_implementation("eager")
    mask = torch.ones_like(input_ids)
    mask[1, :5] = 0
    for weights in tiny_model(input_ids, attention_mask=mask, output_attentions=True).attentions:
        assert (weights[1, :, 5:, :5] == 0).all()
        assert (weights[0, :, 5:, :5] > 0).all()


def test_sdpa_equals_eager_in_float32(tiny_model, input_ids):
    logits = {}
    for implementation in IMPLEMENTATIONS:
        tiny_model.set_attn_implementation(implementation)
        logits[implementation] = tiny_model(input_ids).logits
    torch.testing.assert_close(logits["sdpa"], logits["eager"], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_attention_dropout_acts_in_training_only(tiny_config, input_ids, implementation):
    tiny_config.attn_pdrop = 0.5
    model = GPT2ScratchForCausalLM(tiny_config)
    model.set_attn_implementation(implementation)
    model.train()
    assert not torch.equal(model(input_ids).logits, model(input_ids).logits)
    model.eval()
    assert torch.equal(model(input_ids).logits, model(input_ids).logits)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_dropout_can_be_switched_off_by_module_type(tiny_config, input_ids, implementation):
    """TRL does so for the models that it compares."""
    for field in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        setattr(tiny_config, field, 0.5)
    model = GPT2ScratchForCausalLM(tiny_config).train()
    model.set_attn_implementation(implementation)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    training = model(input_ids).logits
    torch.testing.assert_close(training, model.eval()(input_ids).logits, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("field", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_each_dropout_field_is_read(tiny_config, input_ids, field):
    setattr(tiny_config, field, 0.5)
    model = GPT2ScratchForCausalLM(tiny_config).train()
    assert not torch.equal(model(input_ids).logits, model(input_ids).logits)
