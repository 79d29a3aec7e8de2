"""The body: sizes, initial weights, cache, packed documents, and what it refuses."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, GPT2ScratchModel


IMPLEMENTATIONS = ["eager", "sdpa"]


def test_the_defaults_are_gpt2_124m():
    with torch.device("meta"):
        model = GPT2ScratchForCausalLM(GPT2ScratchConfig())
    assert model.num_parameters() == 124_439_808
    assert model.transformer.token_embedding.weight.shape == (50_257, 768)
    assert model.transformer.position_embedding.weight.shape == (1024, 768)
    assert len(model.transformer.blocks) == 12
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.1}


@pytest.mark.parametrize("build", [GPT2ScratchForCausalLM, AutoModelForCausalLM.from_config])
def test_initial_weights_are_gpt2s(build):
    torch.manual_seed(0)
    model = build(GPT2ScratchConfig(vocab_size=2000, n_positions=256, n_embd=256, n_layer=8, n_head=4))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            scaled = name.endswith(("out_proj.weight", "down_proj.weight"))
            expected = 0.02 / math.sqrt(2 * 8) if scaled else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.02), name
            assert abs(parameter.mean().item()) < 0.02 * expected + 5 * expected / math.sqrt(parameter.numel()), name


def test_the_initial_loss_is_that_of_knowing_nothing():
    torch.manual_seed(0)
    model = GPT2ScratchForCausalLM(GPT2ScratchConfig(n_embd=64, n_layer=2, n_head=4, n_positions=64)).eval()
    ids = torch.randint(50257, (4, 64))
    assert model(ids, labels=ids).loss.item() == pytest.approx(math.log(50257), rel=0.01)


def caches(model):
    yield DynamicCache(config=model.config)
    yield StaticCache(config=model.config, max_cache_len=64)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_going_on_from_a_cache_equals_starting_over(tiny_model, input_ids, implementation):
    tiny_model.set_attn_implementation(implementation)
    expected = tiny_model(input_ids, use_cache=False).logits
    for cache in caches(tiny_model):
        found = [tiny_model(input_ids[:, :9], past_key_values=cache, use_cache=True).logits]
        for position in range(9, 20):
            token = input_ids[:, position : position + 1]
            positions = torch.tensor([[position]])
            step = tiny_model(token, past_key_values=cache, position_ids=positions, use_cache=True)
            found.append(step.logits)
        torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_packed_documents_do_not_see_each_other(tiny_model, input_ids, implementation):
    tiny_model.set_attn_implementation(implementation)
    documents = [input_ids[0, :8], input_ids[1, :12], input_ids[2, :5]]
    packed = torch.cat(documents)[None]
    positions = torch.cat([torch.arange(len(document)) for document in documents])[None]
    found = tiny_model(packed, position_ids=positions, use_cache=False).logits[0]
    expected = torch.cat([tiny_model(document[None]).logits[0] for document in documents])
    torch.testing.assert_close(found, expected, atol=3e-6, rtol=1e-5)


def test_positions_matter(tiny_model, input_ids):
    first = tiny_model(input_ids).logits
    moved = tiny_model(input_ids, position_ids=torch.arange(3, 23)[None]).logits
    assert (first - moved).abs().max() > 0.01


def test_every_layers_output_on_request(tiny_model, input_ids):
    outputs = tiny_model.transformer(input_ids, output_hidden_states=True)
    assert [states.shape for states in outputs.hidden_states] == [(3, 20, 32)] * 4
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)


@pytest.mark.parametrize("inputs", [{}, {"input_ids": torch.tensor([[1]]), "inputs_embeds": torch.zeros(1, 1, 32)}])
def test_neither_or_both_inputs_are_refused(tiny_model, inputs):
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        tiny_model.transformer(**inputs)


def test_token_types_are_refused(tiny_model, input_ids):
    with pytest.raises(ValueError, match="no token types in this model"):
        tiny_model(input_ids, token_type_ids=torch.zeros_like(input_ids))
    tiny_model(input_ids, token_type_ids=None)


def test_more_tokens_than_the_context_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"65 tokens do not fit the context of 64"):
        tiny_model(torch.zeros(1, 65, dtype=torch.long))
    cache = tiny_model(torch.zeros(1, 60, dtype=torch.long), use_cache=True).past_key_values
    with pytest.raises(ValueError, match=r"Positions 60 to 64 do not fit the context of 64"):
        tiny_model(torch.zeros(1, 5, dtype=torch.long), past_key_values=cache)
    with pytest.raises(ValueError, match=r"Positions 60 to 64 do not fit"):
        tiny_model(torch.zeros(1, 5, dtype=torch.long), position_ids=torch.arange(60, 65)[None])


def test_packed_documents_may_be_longer_together_than_the_context(tiny_model, input_ids):
    row = input_ids[:1].repeat(1, 4)  # 80 tokens, where the context is 64
    found = tiny_model(row, position_ids=torch.arange(20).repeat(4)[None], use_cache=False).logits
    expected = tiny_model(input_ids[:1]).logits.repeat(1, 4, 1)
    torch.testing.assert_close(found, expected, atol=3e-6, rtol=1e-5)


def test_gradient_checkpointing_gives_equal_gradients(tiny_config, randomise, input_ids):
    gradients = []
    for checkpointing in (False, True):
        model = randomise(GPT2ScratchForCausalLM(tiny_config)).train()
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.is_activation_checkpointing
        model(input_ids, labels=input_ids).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name in gradients[0]:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], atol=1e-7, rtol=1e-5)


def test_it_compiles_to_one_graph(tiny_model, input_ids):
    expected = tiny_model.transformer(input_ids, use_cache=False).last_hidden_state
    compiled = torch.compile(tiny_model.transformer, fullgraph=True, backend="eager")
    found = compiled(input_ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_it_is_the_base_of_the_language_model(tiny_model):
    assert tiny_model.base_model is tiny_model.transformer
    assert isinstance(tiny_model.base_model, GPT2ScratchModel)
    assert tiny_model.get_input_embeddings() is tiny_model.transformer.token_embedding
    assert tiny_model.get_output_embeddings() is tiny_model.lm_head
