"""The feed-forward layer: widen, GELU, narrow, token by token."""

import torch

from modeling_gpt2scratch.feed_forward import FeedForward
from modeling_gpt2scratch.gelu import gelu_tanh


def test_equals_its_formula(tiny_config, randomise):
    layer = randomise(FeedForward(tiny_config))
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    inner = gelu_tanh(x @ layer.up_proj.weight.T + layer.up_proj.bias)
    assert inner.shape == (2, 5, 128)
    expected = inner @ layer.down_proj.weight.T + layer.down_proj.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)


def test_tokens_do_not_see_each_other(tiny_config, randomise):
    layer = randomise(FeedForward(tiny_config))
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x)[0, 2].sum(), x)
    assert [bool(row.any()) for row in gradient[0]] == [False, False, True, False, False]


def test_inner_width_is_configurable(tiny_config):
    tiny_config.n_inner = 50
    layer = FeedForward(tiny_config)
    assert layer.up_proj.out_features == layer.down_proj.in_features == 50
