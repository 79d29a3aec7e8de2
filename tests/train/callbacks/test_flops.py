"""The count of operations is that of what the model does; peaks are plausible."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.callbacks.flops import data_sheet_peak_flops, flops_per_token, measured_peak_flops


B, T = 2, 32


@pytest.fixture
def model():
    config = GPT2ScratchConfig(
        vocab_size=500, n_layer=3, n_head=4, n_embd=64, n_positions=T, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0
    )
    return GPT2ScratchForCausalLM._from_config(config, attn_implementation="eager")


@pytest.mark.parametrize("training", [True, False])
def test_it_counts_the_matrix_products(model, training):
    """Counted by torch in eager attention, which does look at all keys; biases and norms are not products."""
    ids = torch.randint(500, (B, T))
    with FlopCounterMode(display=False) as counter:
        logits = model.eval()(ids).logits
        if training:
            logits.sum().backward()
    assert flops_per_token(model.config, T, training) * B * T == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_gpt2_takes_about_six_flops_a_weight_and_token():
    assert flops_per_token(GPT2ScratchConfig(), 1024) == pytest.approx(6 * 123.7e6 + 12 * 12 * 768 * 1024, rel=1e-3)


def test_the_measured_peak_is_a_rate_of_this_machine():
    peak = measured_peak_flops(torch.device("cpu"), torch.float32, seconds=0.0)
    assert 1e8 < peak < 1e15


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12), ("X1", None)],
)
def test_known_devices_have_a_data_sheet(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert data_sheet_peak_flops(torch.device("cuda")) == peak


def test_a_processor_has_none():
    assert data_sheet_peak_flops(torch.device("cpu")) is None
