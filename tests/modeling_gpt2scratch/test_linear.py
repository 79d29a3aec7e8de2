"""A projection equals its layer, and takes its short cut only where that is meant."""

import pytest
import torch
from torch import nn

from modeling_gpt2scratch import linear as module
from modeling_gpt2scratch.linear import MOST_ROWS, project


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(48, 32)


@pytest.fixture
def short_cuts(monkeypatch):
    """Whether each call took it."""
    taken = []
    original = module._suits_onednn
    monkeypatch.setattr(module, "_suits_onednn", lambda layer, x: taken.append(original(layer, x)) or taken[-1])
    return taken


@pytest.mark.parametrize("shape", [(1, 1, 48), (8, 1, 48), (48,), (2, MOST_ROWS // 2, 48)])
def test_few_rows_without_gradients_take_the_short_cut(layer, short_cuts, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(project(layer, x), layer(x), atol=1e-6, rtol=1e-5)
    assert short_cuts == [True]


def test_a_layer_without_bias_and_rows_that_are_not_contiguous(short_cuts):
    layer = nn.Linear(48, 32, bias=False)
    x = torch.randn(48, 3).T
    with torch.no_grad():
        torch.testing.assert_close(project(layer, x), x @ layer.weight.T, atol=1e-6, rtol=1e-5)
    assert short_cuts == [True]


def test_everything_else_calls_the_layer(layer, short_cuts, monkeypatch):
    x = torch.randn(4, 48)
    assert torch.equal(project(layer, x), layer(x))  # gradients
    with torch.no_grad():
        many = torch.randn(MOST_ROWS + 1, 48)
        assert torch.equal(project(layer, many), layer(many))
        assert project(layer, torch.empty(0, 48)).shape == (0, 32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert project(layer, x).dtype == torch.bfloat16
        assert project(layer.bfloat16(), x.bfloat16()).dtype == torch.bfloat16
        layer.float()
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        project(layer, x)
    assert short_cuts == [False] * 6


@torch.no_grad()
def test_what_has_taken_a_layers_place_is_called(layer):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    other = Doubled(48, 32)
    x = torch.randn(1, 48)
    torch.testing.assert_close(project(other, x), 2 * (x @ other.weight.T + other.bias))
    layer.forward = lambda x: x + 1  # as accelerate replaces it
    assert torch.equal(project(layer, x), x + 1)


@torch.no_grad()
def test_hooks_see_every_call(layer):
    seen = []
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook):
        handle = register(lambda *arguments: seen.append(1))
        project(layer, torch.randn(1, 48))
        handle.remove()
    assert len(seen) == 2


def test_a_models_steps_of_generation_take_it(tiny_model, input_ids, short_cuts):
    with torch.no_grad():
        tiny_model(input_ids[:, :1])
    assert short_cuts == [True] * (3 * 6 + 1)
