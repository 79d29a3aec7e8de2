"""transformers itself, where it takes half a minute and more: continuous batching, and flex attention."""

import pytest
import torch
from transformers import GenerationConfig


@pytest.fixture(params=["eager", "sdpa"])
def implementation(request, learned):
    before = learned.config._attn_implementation
    yield request.param
    learned.set_attn_implementation(before)


def test_continuous_batching_writes_what_each_prompt_gets_alone(learned, tokenizer, answers, implementation):
    learned.set_attn_implementation(implementation)
    prompts = tokenizer(list(answers))["input_ids"]
    end = tokenizer.eos_token_id
    settings = GenerationConfig(max_new_tokens=40, do_sample=False, pad_token_id=end, eos_token_id=end)
    requests = learned.generate_batch(prompts, generation_config=settings)
    written = [tokenizer.decode(request.generated_tokens, skip_special_tokens=True) for request in requests.values()]
    assert written == list(answers.values())


@torch.no_grad()
@pytest.mark.parametrize("rows", ["plain", "padded", "packed"])
def test_flex_attention(learned, rows):
    """Forward only: torch has no backward pass of it for CPUs."""
    ids = torch.arange(48).view(2, 24)
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    packed = {"position_ids": (torch.arange(24) % 9).expand(2, 24), "use_cache": False}
    padded = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    settings = {"plain": {}, "padded": padded, "packed": packed}[rows]
    counted = mask.bool() if rows == "padded" else torch.ones_like(mask).bool()
    before = learned.config._attn_implementation
    expected = learned(ids, **settings).logits[counted]
    learned.set_attn_implementation("flex_attention")
    found = learned(ids, **settings).logits[counted]
    learned.set_attn_implementation(before)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
