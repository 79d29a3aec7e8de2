"""All of transformers' ways of writing text, token for token as Hugging Face's GPT-2; and where the context ends."""

import pytest
import torch
from transformers import AutoTokenizer, pipeline

from modeling_gpt2scratch import GPT2ScratchForCausalLM


WAYS = {
    "greedy": {},
    "without cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "sampling": {"do_sample": True, "temperature": 0.9, "top_k": 40, "top_p": 0.95},
    "several samples": {"do_sample": True, "num_return_sequences": 3},
    "beam search": {"num_beams": 4, "length_penalty": 0.8},
    "all beams": {"num_beams": 4, "num_return_sequences": 4, "early_stopping": True},
    "beam sampling": {"num_beams": 3, "do_sample": True},
    "penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
}


def write(model, input_ids, **settings):
    torch.manual_seed(0)
    mask = torch.ones_like(input_ids)
    common = {"attention_mask": mask, "max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    return model.generate(input_ids, **common | settings)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("way", WAYS)
def test_tokens_equal_hugging_faces_gpt2s(twins, input_ids, way, implementation):
    for model in twins:
        model.set_attn_implementation(implementation)
    expected, found = (write(model, input_ids, **WAYS[way]) for model in twins)
    assert torch.equal(found, expected)
    assert len(set(found[0, 20:].tolist())) > 3  # the models say something


@pytest.mark.parametrize("way", ["greedy", "static cache", "beam search"])
def test_a_padded_prompt_goes_on_as_it_does_alone(tiny_model, input_ids, way):
    mask = torch.ones_like(input_ids)
    mask[0, :7] = 0
    together = write(tiny_model, input_ids, **WAYS[way], attention_mask=mask)
    alone = write(tiny_model, input_ids[:1, 7:], **WAYS[way])
    length = alone.shape[1] - 13
    assert length > 3
    assert torch.equal(together[0, 20 : 20 + length], alone[0, 13:])


@pytest.mark.parametrize("guesser", ["assistant", "prompt lookup"])
def test_assisted_generation_takes_fewer_calls_to_the_same_tokens(tiny_model, input_ids, guesser):
    """Speculative decoding, here with the best of assistants: the model itself, or a prompt that holds the answer."""
    prompt = input_ids[:1]
    expected = write(tiny_model, prompt, eos_token_id=None)
    if guesser == "assistant":
        settings = {"assistant_model": GPT2ScratchForCausalLM(tiny_model.config).eval()}
        settings["assistant_model"].load_state_dict(tiny_model.state_dict())
    else:
        settings = {"prompt_lookup_num_tokens": 5}
        prompt = torch.cat([expected[:, 12:], expected[:, :20]], dim=1)[:, -38:]
        expected = write(tiny_model, prompt, eos_token_id=None)
    calls = []
    tiny_model.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    assert torch.equal(write(tiny_model, prompt, eos_token_id=None, **settings), expected)
    assert len(calls) < 24


def test_it_compiles_to_one_graph_with_a_static_cache(tiny_model, input_ids):
    """The step that `generate` repeats."""
    expected = write(tiny_model, input_ids)
    tiny_model.forward = torch.compile(tiny_model.forward, fullgraph=True, backend="aot_eager")
    assert torch.equal(write(tiny_model, input_ids, cache_implementation="static"), expected)


def test_a_prompt_may_be_embeddings(tiny_model, input_ids):
    embeddings = tiny_model.get_input_embeddings()(input_ids)
    found = tiny_model.generate(inputs_embeds=embeddings, max_new_tokens=24, do_sample=False, pad_token_id=0)
    assert torch.equal(found, write(tiny_model, input_ids)[:, 20:])
    with pytest.raises(ValueError, match="prompt of 80 tokens does not fit the context of 64"):
        tiny_model.generate(inputs_embeds=torch.cat([embeddings] * 4, dim=1), max_new_tokens=1)
    # One position is left, whose token is read and followed by one more that is only written.
    full = torch.cat([embeddings] * 4, dim=1)[:, :63]
    written = tiny_model.generate(inputs_embeds=full, max_new_tokens=9, eos_token_id=None, pad_token_id=0)
    assert written.shape[1] == 2


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_a_prompt_longer_than_the_context_is_refused(tiny_model, settings):
    prompt = torch.ones(2, 65, dtype=torch.long)
    with pytest.raises(ValueError, match=r"prompt of 65 tokens does not fit the context of 64 \(config.n_positions\)"):
        write(tiny_model, prompt, **settings)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_writing_ends_where_the_context_ends(tiny_model, input_ids, settings):
    """64 positions are read, the last of which yields one more token."""
    written = write(tiny_model, input_ids, eos_token_id=None, **settings | {"max_new_tokens": 500})
    assert written.shape[1] == 65


def test_the_text_generation_pipeline(tiny_config, randomise, tokenizer, tmp_path):
    tiny_config.vocab_size, tiny_config.eos_token_id = len(tokenizer), tokenizer.eos_token_id
    model = randomise(GPT2ScratchForCausalLM(tiny_config)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    write_text = pipeline("text-generation", model=str(tmp_path))
    question = "Q: What is the capital city of Japan?"
    (text,) = write_text(question, max_new_tokens=8, do_sample=False)
    ids = AutoTokenizer.from_pretrained(tmp_path)(question, return_tensors="pt")["input_ids"]
    expected = tokenizer.decode(write(model, ids, max_new_tokens=8)[0], skip_special_tokens=True)
    assert text["generated_text"] == expected != question
    chat = [{"role": "user", "content": "What is the capital city of Japan?"}]
    (answer,) = write_text(chat, max_new_tokens=4)
    assert answer["generated_text"][-1]["role"] == "assistant"
    with pytest.raises(ValueError, match="does not fit the context of 64"):
        write_text(question * 10, max_new_tokens=8)
