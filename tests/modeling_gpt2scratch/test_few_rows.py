"""The product for few rows equals the layer's, and is taken only where that is meant."""

import pytest
import torch
from torch import nn

from modeling_gpt2scratch import few_rows
from modeling_gpt2scratch.few_rows import MOST_ROWS, fast_for_few_rows


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(48, 32)


@pytest.fixture
def short_cuts(monkeypatch):
    """Whether each intercepted call took it."""
    taken = []
    original = few_rows._suits_onednn
    monkeypatch.setattr(few_rows, "_suits_onednn", lambda *args: taken.append(original(*args)) or taken[-1])
    return taken


@fast_for_few_rows
def call(layer, x):
    return layer(x)


@pytest.mark.parametrize("shape", [(1, 1, 48), (8, 1, 48), (48,), (2, MOST_ROWS // 2, 48)])
def test_few_rows_without_gradients_take_the_short_cut(layer, short_cuts, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(call(layer, x), layer(x), atol=1e-6, rtol=1e-5)
    assert short_cuts == [True]


def test_a_layer_without_bias_and_rows_that_are_not_contiguous(short_cuts):
    layer = nn.Linear(48, 32, bias=False)
    x = torch.randn(48, 3).T
    with torch.no_grad():
        torch.testing.assert_close(call(layer, x), x @ layer.weight.T, atol=1e-6, rtol=1e-5)
    assert short_cuts == [True]


def test_everything_else_is_computed_as_written(layer, short_cuts, monkeypatch):
    x = torch.randn(4, 48)
    assert call(layer, x).requires_grad
    assert short_cuts == []  # with gradients nothing is intercepted
    with torch.no_grad():
        many = torch.randn(MOST_ROWS + 1, 48)
        assert torch.equal(call(layer, many), layer(many))
        assert call(layer, torch.empty(0, 48)).shape == (0, 32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert call(layer, x).dtype == torch.bfloat16
        assert call(layer.bfloat16(), x.bfloat16()).dtype == torch.bfloat16
        assert call(layer.to("meta"), x.to("meta")).device.type == "meta"
        assert short_cuts == [False] * 5
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        call(nn.Linear(48, 32), x)
        assert short_cuts == [False] * 5


def test_gradients_that_are_switched_on_inside_are_right(layer, short_cuts):
    @fast_for_few_rows
    def with_gradient(layer, x):
        with torch.enable_grad():
            return layer(x).sum()

    with torch.no_grad():
        loss = with_gradient(layer, torch.randn(1, 48))
    loss.backward()
    assert layer.weight.grad is not None
    assert short_cuts == [False]


@torch.no_grad()
def test_what_has_taken_a_weights_place_is_used(layer, short_cuts):
    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) + x @ self.weight.T

    class Watched(torch.Tensor):
        pass

    x = torch.randn(1, 48)
    assert torch.equal(call(layer, x.as_subclass(Watched)), layer(x))
    assert short_cuts == [False]
    other = Doubled(48, 32)
    torch.testing.assert_close(call(other, x), 2 * (x @ other.weight.T) + other.bias)


@torch.no_grad()
def test_hooks_see_every_call(layer):
    seen = []
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook):
        handle = register(lambda *arguments: seen.append(1))
        call(layer, torch.randn(1, 48))
        handle.remove()
    assert len(seen) == 2


def test_a_models_steps_of_generation_take_it(tiny_model, input_ids, short_cuts):
    with torch.no_grad():
        tiny_model(input_ids[:, :1])
    assert short_cuts == [True] * (3 * 6 + 1)
