"""Texts after prompts: those of each prompt alone, samples that can be drawn again, and nothing else changed."""

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.evaluation.generation import write_texts


PROMPTS = [[5, 6, 7, 8, 9, 10], [11, 12], [13]]
END = 50256


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GPT2ScratchConfig(n_layer=2, n_head=2, n_embd=32, n_positions=64, initializer_range=0.3)
    return GPT2ScratchForCausalLM(config)


def test_a_batch_of_prompts_is_continued_as_each_alone(model):
    together = write_texts(model, PROMPTS, max_new_tokens=8, end_of_text=END, title="")
    for prompt, (written,) in zip(PROMPTS, together, strict=True):
        ids = torch.tensor([prompt])
        settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": END}
        alone = model.eval().generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :]
        assert written == alone.tolist()


def test_samples_can_be_drawn_again_and_leave_the_run_as_it_was(model):
    model.train()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    options = {"max_new_tokens": 8, "end_of_text": END, "title": "", "samples": 4, "temperature": 1.0}
    first, again, other = (write_texts(model, PROMPTS, seed=seed, **options) for seed in (0, 0, 1))
    assert [len(texts) for texts in first] == [4, 4, 4]
    assert len({tuple(text) for text in first[0]}) > 1
    assert first == again != other
    assert torch.rand(1) == expected
    assert model.training


def test_a_text_ends_with_the_first_end_of_text(model, monkeypatch):
    rest = torch.tensor([[1, END, END], [2, 3, 4]])
    monkeypatch.setattr(model, "generate", lambda input_ids, **_: torch.cat([input_ids, rest], dim=1))
    assert write_texts(model, [[5], [6]], max_new_tokens=3, end_of_text=END, title="") == [[[1, END]], [[2, 3, 4]]]
