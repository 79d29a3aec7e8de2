"""The linear layer equals torch's, and takes its short cut only where that is meant."""

import pytest
import torch
from torch import nn

from modeling_gpt2scratch import linear as module
from modeling_gpt2scratch.linear import MOST_ROWS, Linear


@pytest.fixture
def layers():
    """Ours, and torch's with the same weights."""
    torch.manual_seed(0)
    ours, theirs = Linear(48, 32), nn.Linear(48, 32)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture
def short_cuts(monkeypatch):
    """Whether each call took it."""
    taken = []
    original = module._suits_onednn
    monkeypatch.setattr(module, "_suits_onednn", lambda x, weight: taken.append(original(x, weight)) or taken[-1])
    return taken


@pytest.mark.parametrize("shape", [(1, 1, 48), (8, 1, 48), (48,), (2, MOST_ROWS // 2, 48)])
def test_few_rows_without_gradients_take_the_short_cut(layers, short_cuts, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        ours, theirs = (layer(x) for layer in layers)
    assert short_cuts == [True]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_a_layer_without_bias_and_rows_that_are_not_contiguous(short_cuts):
    layer = Linear(48, 32, bias=False)
    x = torch.randn(48, 3).T
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ layer.weight.T, atol=1e-6, rtol=1e-5)
    assert short_cuts == [True]


def test_everything_else_is_torchs_to_the_bit(layers, short_cuts, monkeypatch):
    ours, theirs = layers
    x = torch.randn(4, 48)
    assert torch.equal(ours(x), theirs(x))  # gradients
    with torch.no_grad():
        many = torch.randn(MOST_ROWS + 1, 48)
        assert torch.equal(ours(many), theirs(many))
        assert ours(torch.empty(0, 48)).shape == (0, 32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert ours(x).dtype == torch.bfloat16
        assert ours.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
        ours.float()
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        ours(x)
    assert short_cuts == [False] * 6


def test_gradients_flow(layers):
    x = torch.randn(1, 48, requires_grad=True)
    ours, theirs = (torch.autograd.grad(layer(x).sum(), (x, layer.weight, layer.bias)) for layer in layers)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
