"""The model's behaviour on accelerators, as far as it shows without one."""

import contextlib

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchForCausalLM


@pytest.fixture
def meta_model(tiny_config, monkeypatch):
    """On the meta device, whose tensors have no values: reading one, for which an accelerator would have to be waited
    for, is an error there."""
    # torch knows no autocast for it.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **kwargs: contextlib.nullcontext())
    for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
        setattr(tiny_config, name, 0.1)
    with torch.device("meta"):
        return GPT2ScratchForCausalLM(tiny_config).train()


@pytest.fixture
def meta_ids():
    return torch.zeros(2, 32, dtype=torch.long, device="meta")


@pytest.mark.parametrize("items", [None, torch.tensor(5, device="meta")])
def test_a_training_step_reads_no_value_from_the_device(meta_model, meta_ids, items):
    loss = meta_model(meta_ids, labels=meta_ids, num_items_in_batch=items, use_cache=False).loss
    loss.backward()
    assert all(parameter.grad.shape == parameter.shape for parameter in meta_model.parameters())


def test_neither_does_evaluation(meta_model, meta_ids):
    with torch.no_grad():
        assert meta_model.eval()(meta_ids, labels=meta_ids, skip_logits=True, use_cache=False).loss.shape == ()


def test_the_meta_device_does_tell(meta_ids):
    with pytest.raises(RuntimeError, match="meta tensors"):
        meta_ids.max().item()
