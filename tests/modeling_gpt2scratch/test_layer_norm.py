"""The fused layer norm equals the written-out formula, and both equal torch's."""

import math

import pytest
import torch
from torch import nn

from modeling_gpt2scratch.layer_norm import LayerNorm, layer_norm


EPSILON = 1e-5


@pytest.fixture
def ours():
    torch.manual_seed(0)
    norm = LayerNorm(12, EPSILON).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(1)
    return (3.0 + 2.0 * torch.randn(2, 5, 12, generator=generator, dtype=torch.float64)).requires_grad_()


def values_and_gradients(function, *inputs):
    y = function()
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return y, *torch.autograd.grad((y * upstream).sum(), inputs)


@pytest.mark.parametrize("form", ["formula", "module"])
def test_known_values(form):
    """(1, 2, 3, 6): mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5, the 4 being C and not C - 1."""
    norm = LayerNorm(4, EPSILON).double()
    norm.weight.data[:] = torch.tensor([1.0, 2.0, -1.0, 0.5])
    norm.bias.data[:] = torch.tensor([0.0, 1.0, 7.0, -1.0])
    row = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    root = math.sqrt(3.5 + EPSILON)
    expected = torch.tensor([-2 / root, -2 / root + 1, 7.0, 1.5 / root - 1], dtype=torch.float64)
    y = norm(row) if form == "module" else layer_norm(row, norm.weight, norm.bias, EPSILON)
    torch.testing.assert_close(y.detach(), expected, atol=1e-14, rtol=0)


def test_module_equals_formula_in_value_and_gradients(ours, x):
    inputs = (x, ours.weight, ours.bias)
    module = values_and_gradients(lambda: ours(x), *inputs)
    formula = values_and_gradients(lambda: layer_norm(x, ours.weight, ours.bias, EPSILON), *inputs)
    for left, right in zip(module, formula, strict=True):
        torch.testing.assert_close(left, right, atol=1e-12, rtol=0)


def test_module_equals_torch_in_value_and_gradients(ours, x):
    stock = nn.LayerNorm(12, eps=EPSILON).double()
    stock.load_state_dict(ours.state_dict())
    left = values_and_gradients(lambda: ours(x), x, ours.weight, ours.bias)
    right = values_and_gradients(lambda: stock(x), x, stock.weight, stock.bias)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-14, rtol=0)


def test_epsilon_is_the_one_given():
    x = torch.tensor([[-1.0, 1.0]])
    torch.testing.assert_close(LayerNorm(2, 3.0)(x).detach(), x / 2)  # sqrt(1 + 3) = 2


def test_constant_row_gives_the_bias_and_finite_gradients():
    norm = LayerNorm(8, EPSILON)
    x = torch.full((2, 8), 5.0, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 8)) and torch.isfinite(x.grad).all()


def test_autocast_norms_in_float32():
    """bfloat16 has 8 bits: near 1000 its steps are 4, and the small differences would be lost in the mean."""
    x = 1000 + torch.randn(4, 64, generator=torch.Generator().manual_seed(2))
    norm = LayerNorm(64, EPSILON)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, norm(x), atol=1e-6, rtol=0)
