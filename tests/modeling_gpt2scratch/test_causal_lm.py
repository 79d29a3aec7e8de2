"""The language model: when it makes logits, which loss it computes, and how it writes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modeling_gpt2scratch import GPT2ScratchForCausalLM


def test_logits_are_there_unless_training_needs_only_the_loss(tiny_model, input_ids):
    assert tiny_model(input_ids, labels=input_ids).logits.shape == (3, 20, 211)
    assert tiny_model.train()(input_ids).logits is not None
    assert tiny_model(input_ids, labels=input_ids).logits is None


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_same_with_and_without_logits(tiny_model, input_ids, training):
    tiny_model.train(training)
    without = tiny_model(input_ids, labels=input_ids, skip_logits=True)
    with_logits = tiny_model(input_ids, labels=input_ids, skip_logits=False)
    assert without.logits is None
    assert with_logits.logits is not None
    torch.testing.assert_close(without.loss, with_logits.loss, atol=1e-6, rtol=0)


def test_loss_arguments_reach_the_loss(tiny_model, input_ids):
    mean = tiny_model(input_ids, labels=input_ids).loss
    for skip_logits in (True, False):
        loss = tiny_model(input_ids, labels=input_ids, num_items_in_batch=1, skip_logits=skip_logits).loss
        torch.testing.assert_close(loss, mean * 3 * 19, rtol=1e-5, atol=0)


def test_shifted_labels_alone_are_enough(tiny_model, input_ids):
    expected = tiny_model(input_ids, labels=input_ids).loss
    shifted = nn.functional.pad(input_ids, (0, 1), value=-100)[:, 1:].contiguous()
    for skip_logits in (True, False):
        found = tiny_model(input_ids, shift_labels=shifted, skip_logits=skip_logits).loss
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_users_own_loss_is_called(tiny_model, input_ids):
    tiny_model.loss_function = lambda logits, labels, vocab_size, **_: logits.sum() * 0 + vocab_size
    assert tiny_model.train()(input_ids, labels=input_ids).loss == 211


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def biased(model):
    model.lm_head.bias = nn.Parameter(torch.linspace(-2, 2, 211))


def doubled(model):
    head = Doubled(32, 211, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head


def hooked_after(model):
    model.lm_head.register_forward_hook(lambda module, inputs, output: 2 * output)


def hooked_before(model):
    model.lm_head.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))


def replaced_forward(model):
    """As accelerate's hooks do it."""
    original = model.lm_head.forward
    model.lm_head.forward = lambda x: 2 * original(x)


def hooked_backward(model):
    model.lm_head.register_full_backward_hook(lambda module, inputs, outputs: (2 * inputs[0],))


@pytest.mark.parametrize("change", [biased, doubled, hooked_after, hooked_before, replaced_forward])
def test_a_head_of_another_kind_is_called_in_training_and_evaluation(tiny_model, input_ids, change):
    plain = tiny_model(input_ids, labels=input_ids).loss
    change(tiny_model)
    logits = tiny_model(input_ids).logits
    expected = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())
    assert (expected - plain).abs() > 0.01
    for training in (True, False):
        for skip_logits in (True, False, None):
            loss = tiny_model.train(training)(input_ids, labels=input_ids, skip_logits=skip_logits).loss
            torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)


def test_a_bias_gets_its_gradient(tiny_model, input_ids):
    biased(tiny_model)
    tiny_model.train()(input_ids, labels=input_ids).loss.backward()
    assert tiny_model.lm_head.bias.grad.abs().max() > 0


def test_a_backward_hook_of_the_head_is_called(tiny_model, input_ids):
    """The hook doubles the gradient on its way to the final norm."""
    gradients = []
    for change in (lambda model: None, hooked_backward):
        tiny_model.zero_grad()
        change(tiny_model)
        tiny_model.train()(input_ids, labels=input_ids).loss.backward()
        gradients.append(tiny_model.transformer.final_norm.bias.grad.clone())
    torch.testing.assert_close(gradients[1], 2 * gradients[0], atol=1e-7, rtol=1e-4)


def test_a_gradient_penalty_is_refused_unless_there_are_logits(tiny_model, input_ids):
    """Differentiated twice: the loss's gradient with respect to the embeddings, and of its size the weights'."""

    def penalty_gradient(**settings):
        tiny_model.zero_grad()
        embeddings = tiny_model.get_input_embeddings()(input_ids)
        loss = tiny_model(inputs_embeds=embeddings, labels=input_ids, **settings).loss
        (gradient,) = torch.autograd.grad(loss, embeddings, create_graph=True)
        gradient.pow(2).sum().backward()
        return tiny_model.transformer.final_norm.weight.grad

    tiny_model.set_attn_implementation("eager")  # SDPA's kernels cannot be differentiated twice either
    tiny_model.train()
    with pytest.raises(RuntimeError, match="skip_logits=False"):
        penalty_gradient()
    assert penalty_gradient(skip_logits=False).abs().max() > 0


def test_flop_counters_see_all_matrix_products(twins, input_ids):
    """Evaluation and training count as with Hugging Face's GPT-2; a row without a label needs none in the loss."""

    def flops(model, **settings):
        with FlopCounterMode(display=False) as counter:
            loss = model(input_ids, labels=input_ids, **settings).loss
            if loss.requires_grad:
                loss.backward()
        return counter.get_total_flops()

    stock, ours = twins
    with torch.no_grad():
        assert flops(ours) == flops(stock) > 0
    head = 2 * 3 * 32 * 211  # of a position in each of three texts
    assert flops(ours.train()) == flops(stock.train()) - 3 * head


def test_only_the_positions_asked_for_are_scored(tiny_model, input_ids):
    everything = tiny_model(input_ids).logits
    some = torch.tensor([0, 7, 19])
    assert torch.equal(tiny_model(input_ids, logits_to_keep=0).logits, everything)
    for keep, expected in ((1, everything[:, -1:]), (4, everything[:, -4:]), (some, everything[:, some])):
        torch.testing.assert_close(tiny_model(input_ids, logits_to_keep=keep).logits, expected, atol=1e-6, rtol=1e-5)


def test_tuples_on_request(tiny_model, input_ids):
    loss, logits, *_ = tiny_model(input_ids, labels=input_ids, return_dict=False)
    assert loss.ndim == 0
    assert logits.shape == (3, 20, 211)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True}, {"cache_implementation": "static"}])
def test_it_writes_with_and_without_cache_alike(tiny_model, input_ids, settings):
    settings = {"attention_mask": torch.ones_like(input_ids), "max_new_tokens": 8, "pad_token_id": 0, **settings}
    written = []
    for use_cache in (True,) if "cache_implementation" in settings else (True, False):
        torch.manual_seed(0)
        written.append(tiny_model.generate(input_ids, use_cache=use_cache, **settings))
    assert all(torch.equal(one, written[0]) for one in written)
    assert written[0].shape[1] > 20


@pytest.mark.slow
def test_it_learns_a_text_by_heart(tiny_config):
    torch.manual_seed(0)
    model = GPT2ScratchForCausalLM(tiny_config).train()
    ids = torch.randint(210, (1, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    written = model.eval().generate(ids[:, :4], attention_mask=torch.ones(1, 4), max_new_tokens=28, do_sample=False)
    assert torch.equal(written, ids)
