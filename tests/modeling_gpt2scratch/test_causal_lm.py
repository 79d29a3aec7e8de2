"""The language model: when it makes logits, which loss it computes, and how it writes."""

import pytest
import torch
from torch import nn

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from modeling_gpt2scratch.causal_lm import keep_positions


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


def test_a_head_of_another_kind_is_called(tiny_model, input_ids):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    plain = tiny_model(input_ids, labels=input_ids).loss
    head = Doubled(32, 211, bias=False)
    head.weight = tiny_model.lm_head.weight
    tiny_model.lm_head = head
    assert (tiny_model.train()(input_ids, labels=input_ids).loss - plain).abs() > 0.01


def test_only_the_positions_asked_for_are_scored(tiny_model, input_ids):
    everything = tiny_model(input_ids).logits
    some = torch.tensor([0, 7, 19])
    assert torch.equal(tiny_model(input_ids, logits_to_keep=0).logits, everything)
    for keep, expected in ((1, everything[:, -1:]), (4, everything[:, -4:]), (some, everything[:, some])):
        torch.testing.assert_close(tiny_model(input_ids, logits_to_keep=keep).logits, expected, atol=1e-6, rtol=1e-5)


def test_positions_can_differ_from_row_to_row():
    states = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(keep_positions(states, torch.tensor([[0, 2], [1, 1]])), states[[[0], [1]], [[0, 2], [1, 1]]])
    chosen = torch.tensor([[True, False, False], [True, True, False]])
    assert torch.equal(keep_positions(states, chosen), states[chosen])


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
