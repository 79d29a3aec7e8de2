"""The loss without logits equals the loss from logits, in value and in every gradient, and never makes them."""

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from transformers.loss.loss_utils import ForCausalLMLoss

from modeling_gpt2scratch import next_token_loss as module
from modeling_gpt2scratch.next_token_loss import next_token_loss


B, T, C, V = 3, 50, 16, 300


@pytest.fixture(autouse=True, params=["eager", "compiled", "accelerator"])
def path(request, monkeypatch):
    """All ways of computing it, in several chunks: 150 rows are two full ones and a part.

    The operator for `torch.compile` is run as it is here, and compiled in a test of its own.
    """
    monkeypatch.setattr(module, "CHUNK_ROWS", 64)
    monkeypatch.setattr(module, "CACHED_HEAD_ROWS", 128)
    monkeypatch.setattr(module, "CHUNK_ROWS_ON_ACCELERATORS", 64)
    if request.param == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if request.param == "accelerator":
        request.getfixturevalue("accelerator")
        monkeypatch.setitem(globals(), "next_token_loss", loss_on_accelerator)
    return request.param


def loss_on_accelerator(*tensors, **kwargs):
    moved = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in kwargs.items()}
    return module.next_token_loss(*(tensor.to("meta") for tensor in tensors), **moved).to("cpu")


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


def test_bfloat16_autocast_gives_the_numbers_of_the_full_computation(inputs, path):
    if path == "accelerator":
        pytest.skip("torch knows no autocast for the stand-in")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compare(inputs, rtol=1e-4, gradient_tolerance=2**-7)  # two units in the last place of the largest
        hidden, weight, labels = inputs
        next_token_loss(hidden, weight, labels).backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_give_a_float32_loss_as_exact_as_the_full_computations(inputs, dtype):
    hidden, weight, labels = inputs
    # The loss scale that training in float16 starts with.
    compare_with_exact([hidden, weight], labels, dtype, loss_scale=2**16 if dtype == torch.float16 else 1)


@pytest.mark.parametrize("path", ["eager"], indirect=True)
def test_what_memory_held_before_does_not_reach_bfloat16_gradients(inputs, path):
    """An odd number of ids leaves columns beyond the logits, and products in bf16 read one of them."""
    hidden, weight, labels = inputs
    weight, labels = weight[:-1], labels.clamp(max=V - 2)
    torch.use_deterministic_algorithms(True)  # which fills new memory with NaN
    try:
        tensors = [tensor.detach().bfloat16().requires_grad_() for tensor in (hidden, weight)]
        gradients = torch.autograd.grad(next_token_loss(*tensors, labels), tensors)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_float16_is_exact_where_probabilities_are_below_its_smallest_normal_number():
    """As training starts, each token has a probability of 2e-5; half the labels are the same token."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 80, 8, generator=generator)
    weight = 0.02 * torch.randn(50_257, 8, generator=generator)
    labels = torch.randint(50_257, (2, 80), generator=generator)
    labels[:, ::2] = 7
    compare_with_exact([hidden, weight], labels, torch.float16, loss_scale=2**16)


def test_float16_stays_finite_where_a_sum_over_all_rows_is_large():
    """Each row has the same label and large hidden states, and is sure of another token."""
    hidden = torch.full((1, 65, 8), 30.0)
    weight = torch.zeros(70_000, 8)  # more than float16 counts
    weight[5] = 1.0
    labels = torch.full((1, 65), 7)
    compare_with_exact([hidden, weight], labels, torch.float16, loss_scale=1)


def compare_with_exact(tensors, labels, dtype, loss_scale):
    """Loss and gradients of weights in 16 bits are as near to those in float64 as with all logits.

    In float16 torch rounds the gradient of a weight once, the product, and here each chunk's product and their sum.
    """
    allowed = 1.1 if dtype == torch.bfloat16 else 3
    halves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    doubles = [tensor.detach().double().requires_grad_() for tensor in halves]

    def full(hidden, weight):
        return ForCausalLMLoss(torch.nn.functional.linear(hidden, weight), labels, vocab_size=len(weight))

    ours = next_token_loss(*halves, labels)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, full(*halves), rtol=1e-4, atol=0)
    exact = torch.autograd.grad(full(*doubles), doubles)
    theirs = torch.autograd.grad(full(*halves) * loss_scale, halves)
    for found, reference, truth in zip(torch.autograd.grad(ours * loss_scale, halves), theirs, exact, strict=True):
        assert found.dtype == dtype
        found_error, reference_error = (gradient.double() / loss_scale - truth for gradient in (found, reference))
        assert found_error.abs().max() <= allowed * reference_error.abs().max()


def test_rows_without_a_label_are_left_out_on_cpus(inputs, path, monkeypatch):
    """Fine-tuning on answers alone: the head works on the rows that count, here 30 of 150 in one chunk of three."""
    hidden, weight, labels = inputs
    labels[:, :40] = -100
    if path != "eager":
        pytest.skip("elsewhere the number of rows has to be known beforehand")
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
    hidden, weight, labels = inputs
    loss = next_token_loss(hidden, weight, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_second_derivative_is_refused(inputs):
    hidden, weight, labels = inputs
    with pytest.raises(RuntimeError, match="differentiated only once"):
        torch.autograd.grad(next_token_loss(hidden, weight, labels), hidden, create_graph=True)


@pytest.mark.parametrize("path", ["eager"], indirect=True)
def test_compiled_it_is_one_graph_for_all_lengths(inputs, path):
    """A graph for the first length and one for all others, each with one operator in place of the loop."""
    hidden, weight, labels = inputs
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return aot_eager(graph, example_inputs)

    compiled = torch.compile(next_token_loss, backend=backend, fullgraph=True)
    for length in (50, 40, 30, 20, 10):
        few = hidden[:, :length], weight, labels[:, :length]
        expected, found = next_token_loss(*few), compiled(*few)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (found, expected)]
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*few), expected, rtol=1e-6, atol=0)
    assert len(graphs) == 3
    assert all(len(graph.graph.nodes) < 40 for graph in graphs)


@pytest.mark.parametrize("path", ["eager", "accelerator"], indirect=True)
def test_the_logits_of_all_positions_are_never_made(inputs, path, largest_tensor):
    hidden, weight, labels = inputs
    with largest_tensor() as largest:
        next_token_loss(hidden, weight, labels).backward()
    assert 0 < largest.elements <= 64 * (V + module.ALIGNED_COLUMNS)
    with largest_tensor() as largest:
        ForCausalLMLoss(torch.nn.functional.linear(hidden, weight), labels, vocab_size=V).backward()
    assert largest.elements == B * T * V  # so the first half of this test could have failed
