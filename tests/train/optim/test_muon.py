"""Muon: what it does to singular values, and that its steps are torch's own."""

import math
from collections import defaultdict

import pytest
import torch

from train.optim.muon import UPDATE_RMS, newton_schulz, take_muon_step


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(48, 48), (96, 24), (24, 96)])
def test_all_singular_values_come_near_one(shape):
    rank = min(shape)
    U, _ = torch.linalg.qr(torch.randn(shape[0], rank))
    V, _ = torch.linalg.qr(torch.randn(shape[1], rank))
    matrix = U @ torch.diag(torch.linspace(0.05, 1.0, rank)) @ V.T
    after = torch.linalg.svdvals(newton_schulz(matrix[None])[0])
    assert after.min() > 0.6
    assert after.max() < 1.3


def test_singular_vectors_stay():
    """U^T (result) V is diagonal for `U S V^T`: directions keep, only their lengths change."""
    matrix = torch.randn(16, 32)
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    lengths = U.T @ newton_schulz(matrix[None])[0] @ Vh.T
    torch.testing.assert_close(lengths, torch.diag(lengths.diag()), atol=1e-5, rtol=0)


def test_bf16_is_precise_enough_and_only_used_where_asked_for_on_cpus():
    matrices = torch.randn(2, 16, 32)
    exact, rounded = newton_schulz(matrices), newton_schulz(matrices, in_bf16=True)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0)


def test_a_stack_is_each_matrix_by_itself():
    matrices = torch.randn(3, 12, 20)
    alone = torch.stack([newton_schulz(matrix[None])[0] for matrix in matrices])
    torch.testing.assert_close(newton_schulz(matrices), alone)


def test_steps_are_those_of_torchs_muon():
    """Several steps, several shapes, momentum and decay; torch's bfloat16 iteration bounds the agreement."""
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((8, 8), (32, 8), (8, 32), (8, 8))]
    theirs = [torch.nn.Parameter(parameter.detach().clone()) for parameter in ours]
    settings = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9}
    state = defaultdict(dict)
    torchs = torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        take_muon_step({"params": ours, **settings}, state)
        torchs.step()
    for a, b in zip(ours, theirs, strict=True):
        step_length = settings["lr"] * UPDATE_RMS * math.sqrt(max(a.shape))
        torch.testing.assert_close(a, b, atol=4 * 0.05 * step_length, rtol=0)
        torch.testing.assert_close(state[a]["momentum_buffer"], torchs.state[b]["momentum_buffer"])


def test_an_update_has_adamws_size():
    """A root mean square of about 0.2 x the learning rate a weight, whatever the shape."""
    for shape in ((64, 64), (256, 64), (64, 256)):
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape)
        take_muon_step({"params": [parameter], "lr": 1.0, "weight_decay": 0.0, "momentum": 0.95}, defaultdict(dict))
        assert parameter.square().mean().sqrt().item() == pytest.approx(UPDATE_RMS, rel=0.2)


def test_a_parameter_without_gradient_stays_as_it_is():
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    state = defaultdict(dict)
    take_muon_step({"params": [parameter], "lr": 0.1, "weight_decay": 0.1, "momentum": 0.95}, state)
    assert torch.equal(parameter, torch.ones(4, 4))
    assert not state
