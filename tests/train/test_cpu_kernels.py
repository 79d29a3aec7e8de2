"""The kernels for CPUs compute what the model does: in value, in dropout, and in every gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.attention import eager_attention
from train import cpu_kernels
from train.cpu_kernels import (
    BLOCKED_SDPA,
    FastDropout,
    LeanFeedForward,
    attend_by_blocks,
    fast_dropout,
    use_cpu_kernels,
)


B, H, T, D = 2, 3, 40, 8
VOCABULARY = 211


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(cpu_kernels, "BLOCK", 16)  # two whole ones and a part


@pytest.fixture
def heads():
    """Query, key and value in double precision."""
    return [torch.randn(B, H, T, D, dtype=torch.float64).requires_grad_() for _ in range(3)]


@pytest.fixture
def input_ids():
    return torch.randint(VOCABULARY, (3, T))


def build(p=0.0, implementation="sdpa"):
    """A model in training with larger weights than initial ones, so that its activations differ."""
    torch.manual_seed(0)
    dropouts = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), p)
    config = GPT2ScratchConfig(
        **dropouts, vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=3, n_head=4, initializer_range=0.1
    )
    return GPT2ScratchForCausalLM._from_config(config, attn_implementation=implementation).train()


def gradients_of(model, input_ids, seed=1):
    model.zero_grad()
    torch.manual_seed(seed)
    model(input_ids, labels=input_ids, use_cache=False).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_equal_gradients(found, expected):
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


# Attention


def readable(heads, p):
    """`eager_attention`, with the kernels' dropout masks."""
    mask = torch.full((T, T), float("-inf"), dtype=heads[0].dtype).triu(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "dropout", lambda x, p, training: fast_dropout(x, p))
        return eager_attention(nn.Module().train(), *heads, mask, scaling=D**-0.5, dropout=p)[0]


def test_attention_by_blocks_is_the_readable_one_in_outputs_and_gradients(heads):
    expected = readable(heads, 0.0)
    found = attend_by_blocks(*heads, D**-0.5, 0.0)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, heads, upstream), torch.autograd.grad(expected, heads, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_with_one_block_its_dropout_is_the_readable_one_too(heads, monkeypatch):
    """The same random numbers in the same places."""
    monkeypatch.setattr(cpu_kernels, "BLOCK", T)
    torch.manual_seed(3)
    expected = readable(heads, 0.4)
    torch.manual_seed(3)
    torch.testing.assert_close(attend_by_blocks(*heads, D**-0.5, 0.4), expected)


def test_the_backward_pass_meets_the_dropout_of_the_forward_pass(heads):
    """Numerical gradients: another mask in the backward pass would give others."""

    def attend(*heads):
        torch.manual_seed(5)
        return attend_by_blocks(*heads, D**-0.5, 0.4)

    small = [head[:1, :1, :20, :2].detach().requires_grad_() for head in heads]
    assert torch.autograd.gradcheck(attend, small)


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_in_bf16_it_is_as_near_to_double_precision_as_eager_attention(heads, p):
    upstream = torch.randn(B, T, H, D, dtype=torch.float64)

    def run(attention, dtype):
        torch.manual_seed(2)
        inputs = [head.detach().to(dtype).requires_grad_() for head in heads]
        mixed = attention(inputs)
        return [mixed, *torch.autograd.grad(mixed, inputs, upstream.to(dtype))]

    found = run(lambda heads: attend_by_blocks(*heads, D**-0.5, p), torch.bfloat16)
    if p:  # its masks are other ones than those of double precision: only that they are the same in both passes
        again = run(lambda heads: attend_by_blocks(*heads, D**-0.5, p), torch.bfloat16)
        assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
        found = run(lambda heads: attend_by_blocks(*heads, D**-0.5, 1e-9), torch.bfloat16)
    expected = run(lambda heads: readable(heads, 0.0), torch.float64)
    eager = run(lambda heads: readable(heads, 0.0), torch.bfloat16)
    for ours, theirs, exact in zip(found, eager, expected, strict=True):
        assert (ours - exact).norm() < 1.2 * (theirs - exact).norm() + 1e-3 * exact.norm()


def test_the_weights_of_all_queries_are_never_held(heads, largest_tensor):
    with largest_tensor() as largest:
        attend_by_blocks(*heads, D**-0.5, 0.1).sum().backward()
    assert largest.elements <= max(H * 16 * T, B * H * T * D)
    with largest_tensor() as largest:
        readable(heads, 0.1)
    assert largest.elements == B * H * T * T  # so the first half of this test could have failed


# Dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_share_of_p_is_dropped_and_the_mean_stays(p, dtype):
    values = torch.ones(1_000_003, dtype=dtype)  # no multiple of the four values that come out of one random number
    dropped = fast_dropout(values, p)
    share = (dropped == 0).double().mean().item()
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / len(values)) ** 0.5 + 2**-15)
    kept = dropped[dropped != 0]
    assert kept.unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4 if dtype == torch.float32 else 2**-8)
    assert dropped.double().mean().item() == pytest.approx(1.0, abs=0.01)


def test_neighbours_are_dropped_independently():
    """Four values share a random number: their fates must not."""
    dropped = (fast_dropout(torch.ones(400_000, dtype=torch.bfloat16), 0.5) == 0).double().view(-1, 4)
    correlations = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlations.abs().max() < 0.02


def test_the_gradient_passes_where_the_value_did_and_nothing_is_kept_for_it():
    x = torch.randn(1000, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        out = fast_dropout(x, 0.3)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(out == 0, 0.0, out.max() / x[out.argmax()]).detach())
    assert not saved


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_extreme_probabilities_give_finite_numbers(p):
    assert torch.isfinite(fast_dropout(torch.ones(100), p)).all()


def test_empty_and_non_contiguous_input():
    assert fast_dropout(torch.ones(0, 3), 0.5).shape == (0, 3)
    x = torch.randn(6, 4).T
    dropped = fast_dropout(x, 0.5)
    assert dropped.shape == x.shape
    assert ((dropped == 0) | torch.isclose(dropped, 2 * x)).all()


def test_the_layer_drops_in_training_only_and_tools_switch_it_off_by_its_type():
    layer = FastDropout(0.5)
    assert isinstance(layer, nn.Dropout)
    ones = torch.ones(50)
    assert (layer.train()(ones) == 0).any()
    state = torch.get_rng_state()
    assert torch.equal(layer.eval()(ones), ones)
    layer.p = 0.0
    assert torch.equal(layer.train()(ones), ones)
    assert torch.equal(torch.get_rng_state(), state)


# The model


def test_without_dropout_the_model_trains_as_before(input_ids):
    model = build()
    expected = gradients_of(model, input_ids)
    names = list(model.state_dict())
    use_cpu_kernels(model)
    assert_equal_gradients(gradients_of(model, input_ids), expected)
    assert list(model.state_dict()) == names
    assert type(model.transformer.blocks[0].feed_forward) is LeanFeedForward


def test_gelus_output_is_not_kept(input_ids):
    def kept_elements(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda x: x
        ):
            model(input_ids, labels=input_ids, use_cache=False)
        return sum(sizes)

    plain, lean = build(), build()
    use_cpu_kernels(lean)
    gelu_outputs = 3 * input_ids.numel() * 128
    assert kept_elements(plain) - kept_elements(lean) >= gelu_outputs


@pytest.fixture
def blocked_calls(monkeypatch):
    """How often a model attends by blocks."""
    calls = []
    original = cpu_kernels.attend_by_blocks
    monkeypatch.setattr(cpu_kernels, "attend_by_blocks", lambda *arguments: calls.append(1) or original(*arguments))
    return calls


@pytest.mark.parametrize("p, in_bf16", [(0.1, False), (0.1, True), (0.0, True)])
def test_a_model_in_training_attends_by_blocks_in_every_layer(blocked_calls, input_ids, p, in_bf16):
    model = build(p)
    use_cpu_kernels(model)
    with torch.autocast("cpu", enabled=in_bf16):
        gradients_of(model, input_ids)
    assert len(blocked_calls) == 3


def test_in_bf16_the_model_learns_what_it_learns_without_the_kernels(input_ids):
    """One step's gradients are as near to float32's as without them."""
    model = build()
    exact = gradients_of(model, input_ids)
    with torch.autocast("cpu"):
        without = gradients_of(model, input_ids)
        use_cpu_kernels(model)
        found = gradients_of(model, input_ids)
    for name, gradient in exact.items():
        assert (found[name] - gradient).norm() < 1.5 * (without[name] - gradient).norm() + 1e-3 * gradient.norm()


def test_elsewhere_it_does_what_sdpa_does(blocked_calls, input_ids):
    padded = torch.ones_like(input_ids)
    padded[0, -3:] = 0
    packed = (torch.arange(T) % 10).expand(3, T)
    plain, fast = build(), build()
    use_cpu_kernels(fast)
    for settings in ({}, {"attention_mask": padded}, {"position_ids": packed, "use_cache": False}):
        for training in (True, False):
            expected = plain.train(training)(input_ids, **settings).logits
            torch.testing.assert_close(fast.train(training)(input_ids, **settings).logits, expected)
    for module in fast.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    fast.train()
    fast(input_ids, attention_mask=padded)
    fast(input_ids, position_ids=packed, use_cache=False)
    eager = build(0.1, "eager")
    use_cpu_kernels(eager)
    eager(input_ids)
    assert not blocked_calls


def test_it_writes_the_same(input_ids):
    model = build().eval()
    settings = {"max_new_tokens": 10, "do_sample": False, "attention_mask": torch.ones_like(input_ids)}
    expected = model.generate(input_ids, pad_token_id=0, eos_token_id=None, **settings)
    use_cpu_kernels(model)
    assert torch.equal(model.generate(input_ids, pad_token_id=0, eos_token_id=None, **settings), expected)


def test_it_goes_with_gradient_checkpointing(input_ids):
    """Checkpoints within checkpoints: equal gradients for equal seeds."""
    model = build(0.3)
    use_cpu_kernels(model)
    expected = gradients_of(model, input_ids)
    model.activation_checkpointing_enable()
    assert_equal_gradients(gradients_of(model, input_ids), expected)


def test_averaged_over_many_masks_the_outputs_come_near_those_without_dropout(input_ids):
    model = build()
    use_cpu_kernels(model)
    for block in model.transformer.blocks:
        block.attention.attention_dropout.p = 0.2
    hidden = torch.stack([model.transformer(input_ids, use_cache=False).last_hidden_state for _ in range(200)]).mean(0)
    without = model.eval().transformer(input_ids).last_hidden_state
    assert (hidden - without).abs().mean() < 0.1 * without.abs().mean()


def test_a_saved_folder_knows_nothing_of_them(input_ids, tmp_path):
    model = build(0.1)
    use_cpu_kernels(model)
    model.save_pretrained(tmp_path)
    assert BLOCKED_SDPA not in (tmp_path / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
    assert type(again.transformer.embedding_dropout) is nn.Dropout
    torch.testing.assert_close(again.eval()(input_ids).logits, model.eval()(input_ids).logits)
