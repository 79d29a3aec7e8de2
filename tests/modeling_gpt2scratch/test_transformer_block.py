"""The block: two branches, each normalised first, added to a residual stream that nothing else touches."""

import torch

from modeling_gpt2scratch.transformer_block import TransformerBlock


def test_equals_its_formula(tiny_config, randomise):
    tiny_config._attn_implementation = "eager"
    block = randomise(TransformerBlock(tiny_config, layer_idx=0))
    x = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    attended = x + block.attention(block.attention_norm(x))[0]
    expected = attended + block.feed_forward(block.feed_forward_norm(attended))
    torch.testing.assert_close(block(x), expected, atol=0, rtol=0)


def test_is_the_identity_when_both_branches_are_silent(tiny_config, randomise):
    """The residual stream itself is neither normalised nor scaled: pre-norm, as GPT-2, not post-norm, as GPT-1."""
    tiny_config._attn_implementation = "eager"
    block = randomise(TransformerBlock(tiny_config, layer_idx=0))
    for layer in (block.attention.out_proj, block.feed_forward.down_proj):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    x = 10 + 5 * torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)
