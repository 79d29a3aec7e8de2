"""`attn_implementation`: what transformers' attention functions get from the layer is what they need to equal eager."""

import pytest
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, modeling_flash_attention_utils


def packed(input_ids):
    """Documents of 8, 12 and 5 tokens in one row, and their positions."""
    documents = [input_ids[0, :8], input_ids[1, :12], input_ids[2, :5]]
    positions = torch.cat([torch.arange(len(document)) for document in documents])
    return torch.cat(documents)[None], positions[None]


def padded(input_ids):
    """A mask for padding on the left, and the positions that follow from it."""
    mask = torch.ones_like(input_ids)
    mask[0, :7] = 0
    mask[1, :1] = 0
    return mask, (mask.cumsum(-1) - 1).clamp(min=0)


def flash_attn_func(q, k, v, dropout_p=0.0, softmax_scale=None, causal=False):
    """The flash-attn package's function, which needs a GPU, in its own layout (B, T, H, D)."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    T, S = q.shape[2], k.shape[2]
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T) if causal else None  # aligned at the end, as flash-attn does
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p, scale=softmax_scale).transpose(1, 2)


def flash_attn_varlen_func(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False
):
    """The same for rows of unequal length, laid end to end (tokens, H, D)."""
    spans = zip(cu_seqlens_q[:-1], cu_seqlens_q[1:], cu_seqlens_k[:-1], cu_seqlens_k[1:], strict=True)
    return torch.cat(
        [
            flash_attn_func(q[None, a:b], k[None, c:d], v[None, c:d], dropout_p, softmax_scale, causal)[0]
            for a, b, c, d in spans
        ]
    )


@pytest.fixture
def flash_model(tiny_model, monkeypatch):
    """A model on transformers' flash_attention_2 path, with the kernels above in the place of the GPU's."""
    padding = modeling_flash_attention_utils._pad_input, modeling_flash_attention_utils._unpad_input
    kernels = (flash_attn_func, flash_attn_varlen_func, None, *padding)
    monkeypatch.setattr(modeling_flash_attention_utils, "_lazy_imports", lambda *_, **__: kernels)
    monkeypatch.setattr(modeling_flash_attention_utils, "_loaded_implementation", None)
    tiny_model.config._attn_implementation = "flash_attention_2"
    return tiny_model


def eager_logits(model, *inputs, **kwargs):
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    logits = model(*inputs, **kwargs).logits
    model.config._attn_implementation = implementation
    return logits


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=3e-6, rtol=1e-5)


def test_flash_attention_2(flash_model, input_ids):
    close(flash_model(input_ids).logits, eager_logits(flash_model, input_ids))


def test_flash_attention_2_with_padding(flash_model, input_ids):
    mask, positions = padded(input_ids)
    settings = {"attention_mask": mask, "position_ids": positions}
    expected = eager_logits(flash_model, input_ids, **settings)
    close(flash_model(input_ids, **settings).logits[mask.bool()], expected[mask.bool()])


@pytest.mark.parametrize("lengths", ["from the positions", "given"])
def test_flash_attention_2_on_packed_documents(flash_model, input_ids, lengths):
    """A padding-free batch, as TRL's and transformers' collators make it."""
    tokens, positions = packed(input_ids)
    expected = eager_logits(flash_model, tokens, position_ids=positions, use_cache=False)
    settings = {}
    if lengths == "given":
        ends = torch.tensor([0, 8, 20, 25], dtype=torch.int32)
        settings = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": 12, "max_length_k": 12}
    found = flash_model(tokens, position_ids=positions, use_cache=False, **settings).logits
    close(found, expected)


def test_flash_attention_2_writes_the_same(flash_model, input_ids):
    mask, _ = padded(input_ids)
    settings = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    found = flash_model.generate(input_ids, **settings)
    flash_model.set_attn_implementation("eager")
    assert torch.equal(found, flash_model.generate(input_ids, **settings))


def test_flash_attention_2_gets_the_dropout(flash_model, input_ids):
    for block in flash_model.transformer.blocks:
        block.attention.attention_dropout.p = 0.5
    flash_model.train()
    assert not torch.equal(flash_model(input_ids).logits, flash_model(input_ids).logits)
    flash_model.eval()
    assert torch.equal(flash_model(input_ids).logits, flash_model(input_ids).logits)


def test_a_function_of_ones_own_gets_everything(tiny_model, input_ids):
    """vLLM, SGLang and kernel writers rely on this: one call per layer, with its index, shapes, scale and extras."""
    calls = []

    def my_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, my_setting=None, **kwargs):
        calls.append((module.layer_idx, query.shape, key.shape, value.shape, scaling, dropout, my_setting))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
        return mixed.transpose(1, 2), None

    AttentionInterface.register("my_attention", my_attention)
    expected = eager_logits(tiny_model, input_ids)
    tiny_model.set_attn_implementation("my_attention")
    close(tiny_model(input_ids, my_setting="mine").logits, expected)
    shape = torch.Size([3, 4, 20, 8])  # (B, H, T, D)
    assert calls == [(layer, shape, shape, shape, 8**-0.5, 0.0, "mine") for layer in range(3)]


def test_an_unknown_name_is_refused(tiny_model):
    with pytest.raises((ValueError, ImportError), match="no_such_attention"):
        tiny_model.set_attn_implementation("no_such_attention")
