"""Attention by blocks of queries is the readable attention, in value, dropout and every gradient."""

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchForCausalLM, blocked_attention
from modeling_gpt2scratch import attention as attention_module
from modeling_gpt2scratch.attention import eager_attention


B, H, T, D = 2, 3, 40, 8


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocked_attention, "BLOCK", 16)  # two whole ones and a part


@pytest.fixture
def heads():
    """Query, key and value in double precision."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, H, T, D, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)]


def readable(heads, p):
    mask = torch.full((T, T), float("-inf"), dtype=torch.float64).triu(1)
    return eager_attention(torch.nn.Module().train(), *heads, mask, scaling=D**-0.5, dropout=p)[0]


def test_outputs_and_gradients_are_the_readable_ones(heads):
    expected = readable(heads, 0.0)
    found = blocked_attention.blocked_attention(*heads, D**-0.5, 0.0)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, heads, upstream), torch.autograd.grad(expected, heads, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_with_one_block_dropout_is_the_readable_one_too(heads, monkeypatch):
    """The same random numbers in the same places."""
    monkeypatch.setattr(blocked_attention, "BLOCK", T)
    torch.manual_seed(3)
    expected = readable(heads, 0.4)
    torch.manual_seed(3)
    found = blocked_attention.blocked_attention(*heads, D**-0.5, 0.4)
    torch.testing.assert_close(found, expected)


def test_the_backward_pass_meets_the_dropout_of_the_forward_pass(heads):
    """Numerical gradients: another mask in the backward pass would give others."""

    def attend(*heads):
        torch.manual_seed(5)
        return blocked_attention.blocked_attention(*heads, D**-0.5, 0.4)

    small = [head[:1, :1, :20, :2].detach().requires_grad_() for head in heads]
    assert torch.autograd.gradcheck(attend, small)


def test_the_weights_of_all_queries_are_never_held(heads, largest_tensor):
    with largest_tensor() as largest:
        blocked_attention.blocked_attention(*heads, D**-0.5, 0.1).sum().backward()
    assert largest.elements <= B * H * 16 * T
    with largest_tensor() as largest:
        readable(heads, 0.1)
    assert largest.elements == B * H * T * T  # so the first half of this test could have failed


@pytest.fixture
def blocked_calls(monkeypatch):
    """How often a model attends by blocks."""
    calls = []
    original = attention_module.blocked_attention
    monkeypatch.setattr(
        attention_module, "blocked_attention", lambda *arguments: calls.append(1) or original(*arguments)
    )
    return calls


@pytest.fixture
def build(tiny_config):
    def build(p, implementation="sdpa"):
        tiny_config.attn_pdrop = p
        model = GPT2ScratchForCausalLM._from_config(tiny_config, attn_implementation=implementation)
        return model.train()

    return build


def test_a_model_in_training_attends_by_blocks_in_every_layer(build, blocked_calls, input_ids):
    build(0.1)(input_ids, labels=input_ids, use_cache=False).loss.backward()
    assert len(blocked_calls) == 3


def test_elsewhere_it_does_not(build, blocked_calls, input_ids, monkeypatch):
    build(0.1).eval()(input_ids)
    build(0.0)(input_ids)
    build(0.1, "eager")(input_ids)
    padded = torch.ones_like(input_ids)
    padded[0, -3:] = 0
    build(0.1)(input_ids, attention_mask=padded)
    packed = (torch.arange(20) % 10).expand(3, 20)
    build(0.1)(input_ids, position_ids=packed, use_cache=False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    build(0.1)(input_ids)
    assert not blocked_calls


def test_it_goes_with_gradient_checkpointing(build, input_ids):
    """Checkpoints within checkpoints: equal gradients for equal seeds."""
    model = build(0.3)
    gradients = []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(1)
        model(input_ids, labels=input_ids, use_cache=False).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_averaged_over_many_masks_the_outputs_come_near_those_without_dropout(build, input_ids):
    model = build(0.2)
    hidden = torch.stack([model.transformer(input_ids, use_cache=False).last_hidden_state for _ in range(200)]).mean(0)
    without = model.eval().transformer(input_ids).last_hidden_state
    assert (hidden - without).abs().mean() < 0.1 * without.abs().mean()
