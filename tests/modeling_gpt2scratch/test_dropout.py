"""Dropout: what it drops, how it scales, and that torch's own is called wherever ours is not meant."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modeling_gpt2scratch.dropout import LEVELS, Dropout, dropout


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_of_p_is_dropped_and_the_mean_stays(p):
    values = torch.ones(1_000_003)  # no multiple of the four values that come out of one random number
    dropped = dropout(values, p, training=True)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / len(values)) ** 0.5 + 1 / LEVELS)
    kept = dropped[dropped != 0]
    assert kept.unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)


def test_neighbours_are_dropped_independently():
    """Four values share a random number: their fates must not."""
    dropped = (dropout(torch.ones(400_000), 0.5, training=True) == 0).double().view(-1, 4)
    correlations = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlations.abs().max() < 0.02


def test_the_gradient_passes_where_the_value_did():
    x = torch.randn(1000, requires_grad=True)
    out = dropout(x, 0.3, training=True)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(out == 0, 0.0, out.max() / x[out.argmax()]).detach())


def test_what_is_kept_for_the_backward_pass_takes_a_byte_a_value():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        dropout(torch.randn(64, 64, requires_grad=True), 0.1, training=True)
    assert [(tensor.dtype, tensor.numel()) for tensor in saved] == [(torch.bool, 64 * 64)]


def test_the_seed_decides():
    x = torch.randn(100)
    torch.manual_seed(0)
    first, second = (dropout(x, 0.5, training=True) for _ in range(2))
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.5, training=True), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_and_no_random_number_drawn(p, training):
    x = torch.randn(10)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x, p, training), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_extreme_probabilities_give_finite_numbers(p):
    assert torch.isfinite(dropout(torch.ones(100), p, training=True)).all()


def test_empty_and_non_contiguous_input():
    assert dropout(torch.ones(0, 3), 0.5, training=True).shape == (0, 3)
    x = torch.randn(6, 4).T
    dropped = dropout(x, 0.5, training=True)
    assert dropped.shape == x.shape
    assert ((dropped == 0) | torch.isclose(dropped, 2 * x)).all()


def test_a_compiler_gets_torchs_own(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    x = torch.randn(100)
    found = dropout(x, 0.5, training=True)
    torch.manual_seed(0)
    torch.randn(100)
    assert torch.equal(found, F.dropout(x, 0.5, training=True))


def test_tools_find_the_layer_by_its_type():
    layer = Dropout(0.5)
    assert isinstance(layer, nn.Dropout)
    layer.p = 0.0
    assert torch.equal(layer.train()(torch.ones(50)), torch.ones(50))
    layer.p = 0.5
    assert (layer.train()(torch.ones(50)) == 0).any()
    assert torch.equal(layer.eval()(torch.ones(50)), torch.ones(50))
