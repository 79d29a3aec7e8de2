"""The fast GELU equals the written-out formula, and both equal GPT-2's."""

import math

import pytest
import torch
import torch.nn.functional as F

from modeling_gpt2scratch.gelu import GELU, gelu_tanh


# Worked out by hand (with python's decimal arithmetic) from 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
KNOWN_VALUES = {
    -3.0: -0.00363739208177302,
    -1.0: -0.1588080093917233,
    -0.5: -0.15428599017485608,
    0.0: 0.0,
    0.5: 0.34571400982514392,
    1.0: 0.8411919906082767,
    2.0: 1.95459769408777502,
    3.0: 2.99636260791822698,
}


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient


@pytest.mark.parametrize("function", [gelu_tanh, GELU()], ids=["formula", "module"])
@pytest.mark.parametrize(("x", "expected"), KNOWN_VALUES.items())
def test_known_values(function, x, expected):
    assert function(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-14)


def test_module_equals_formula_in_value_and_gradient():
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    for module, formula in zip(value_and_gradient(GELU(), x), value_and_gradient(gelu_tanh, x), strict=True):
        torch.testing.assert_close(module, formula, atol=1e-13, rtol=0)


def test_formula_equals_torch_in_float32():
    x = torch.linspace(-8, 8, 2001)
    torch_gelu = lambda x: F.gelu(x, approximate="tanh")  # noqa: E731
    for formula, expected in zip(value_and_gradient(gelu_tanh, x), value_and_gradient(torch_gelu, x), strict=True):
        torch.testing.assert_close(formula, expected, atol=2e-6, rtol=1e-6)


def test_it_is_the_approximation_and_not_the_exact_function():
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    difference = (GELU()(x) - x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))).abs().max().item()
    assert 1e-4 < difference < 1e-3


def test_gradient_by_finite_differences():
    x = torch.linspace(-4, 4, 41, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu_tanh, x)
    assert torch.autograd.gradcheck(GELU(), x)
