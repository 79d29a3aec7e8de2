"""The loss without logits equals the loss from logits, in value and in every gradient, and never makes them."""

import pytest
import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from modeling_gpt2scratch import next_token_loss as module
from modeling_gpt2scratch.next_token_loss import next_token_loss


B, T, C, V = 3, 50, 16, 300


@pytest.fixture(autouse=True, params=["eager", "compiled"])
def path(request, monkeypatch):
    """Both ways of computing it, in several chunks: 150 rows are two full ones and a part.

    The way for `torch.compile` is run as it is here, and compiled in a test of its own.
    """
    monkeypatch.setattr(module, "CHUNK_ROWS", 64)
    if request.param == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, T, C, generator=generator).requires_grad_()
    weight = torch.randn(V, C, generator=generator).requires_grad_()
    labels = torch.randint(V, (B, T), generator=generator)
    return hidden, weight, labels


def compare(inputs, rtol=1e-5, gradient_tolerance=1e-5, **kwargs):
    hidden, weight, labels = inputs
    logits = torch.nn.functional.linear(hidden, weight)
    expected = ForCausalLMLoss(logits, labels, vocab_size=V, **kwargs)
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))
    found = next_token_loss(hidden, weight, labels, **kwargs)
    found_gradients = torch.autograd.grad(found, (hidden, weight))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=rtol, atol=0)
    for ours, theirs in zip(found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=gradient_tolerance * theirs.abs().max().item())


def test_the_mean_over_all_labels(inputs):
    compare(inputs)


@pytest.mark.parametrize("count", [37, torch.tensor(1234)])
def test_a_sum_divided_by_the_items_of_the_whole_batch(inputs, count):
    compare(inputs, num_items_in_batch=count)


@pytest.mark.parametrize("ignore_index", [-100, 7])
def test_ignored_labels(inputs, ignore_index):
    inputs[2][0, :20] = ignore_index
    inputs[2][2, 5:] = ignore_index
    compare(inputs, ignore_index=ignore_index)


def test_labels_that_are_already_shifted(inputs):
    hidden, weight, labels = inputs
    compare((hidden, weight, labels), shift_labels=labels.roll(-1, dims=1))


def test_positions_are_scored_against_the_next_label():
    """A head that is sure of the next token has no loss, one that is sure of the present token a large one."""
    ids = torch.tensor([[1, 2, 3, 4]])
    weight = 50 * torch.eye(5)
    knows_the_next = torch.eye(5)[[2, 3, 4, 0]][None]
    assert next_token_loss(knows_the_next, weight, ids) < 1e-6
    assert next_token_loss(torch.eye(5)[ids], weight, ids) > 40


def test_bfloat16_autocast_gives_the_numbers_of_the_full_computation(inputs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compare(inputs, rtol=1e-4, gradient_tolerance=2**-7)  # two units in the last place of the largest
        hidden, weight, labels = inputs
        next_token_loss(hidden, weight, labels).backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


def test_bfloat16_weights_give_a_float32_loss_as_exact_as_the_full_computations(inputs):
    hidden, weight, labels = inputs
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight)]
    doubles = [tensor.detach().double().requires_grad_() for tensor in halves]

    def full(hidden, weight):
        return ForCausalLMLoss(torch.nn.functional.linear(hidden, weight), labels, vocab_size=V)

    ours = next_token_loss(*halves, labels)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, full(*halves), rtol=1e-4, atol=0)
    exact = torch.autograd.grad(full(*doubles), doubles)
    theirs = torch.autograd.grad(full(*halves), halves)
    for found, reference, truth in zip(torch.autograd.grad(ours, halves), theirs, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found - truth).abs().max() <= 1.1 * (reference - truth).abs().max()


def test_rows_without_a_label_are_left_out_on_cpus(inputs, monkeypatch):
    """Fine-tuning on answers alone: the head works on the rows that count, here 30 of 150 in one chunk of three."""
    hidden, weight, labels = inputs
    labels[:, :40] = -100
    if torch.compiler.is_compiling():
        pytest.skip("the number of rows is fixed when the step is compiled")
    multiplied = []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **kwargs: multiplied.append(len(a)) or product(a, b, **kwargs))
    next_token_loss(hidden, weight, labels)
    assert sum(multiplied) == 30


def test_no_labels_at_all_give_no_gradient(inputs):
    hidden, weight, labels = inputs
    labels[:] = -100
    loss = next_token_loss(hidden, weight, labels, num_items_in_batch=7)
    assert loss == 0
    for gradient in torch.autograd.grad(loss, (hidden, weight)):
        assert not gradient.any()


def test_a_second_backward_pass_is_refused(inputs):
    """The gradients are scaled in place, so a second pass would scale them twice."""
    if torch.compiler.is_compiling():
        pytest.skip("made again in each backward pass")
    hidden, weight, labels = inputs
    loss = next_token_loss(hidden, weight, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_right_or_refused(inputs):
    hidden, weight, labels = inputs

    def penalty_gradients(loss):
        (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
        return torch.autograd.grad(gradient.pow(2).sum(), (hidden, weight))

    loss = next_token_loss(hidden, weight, labels)
    if not torch.compiler.is_compiling():
        with pytest.raises(RuntimeError, match="differentiated only once"):
            penalty_gradients(loss)
        return
    expected = penalty_gradients(ForCausalLMLoss(torch.nn.functional.linear(hidden, weight), labels, vocab_size=V))
    for ours, theirs in zip(penalty_gradients(loss), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_it_compiles(inputs):
    hidden, weight, labels = inputs
    compiled = torch.compile(next_token_loss, backend="aot_eager", fullgraph=True)
    expected = next_token_loss(hidden, weight, labels)
    found = compiled(hidden, weight, labels)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_the_logits_of_all_positions_are_never_made(inputs, largest_tensor):
    hidden, weight, labels = inputs
    with largest_tensor() as largest:
        next_token_loss(hidden, weight, labels).backward()
    assert 0 < largest.elements <= 64 * (V + module.ALIGNED_COLUMNS)
    with largest_tensor() as largest:
        ForCausalLMLoss(torch.nn.functional.linear(hidden, weight), labels, vocab_size=V).backward()
    assert largest.elements == B * T * V  # so the first half of this test could have failed
