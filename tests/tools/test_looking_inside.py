"""TransformerLens, nnsight, bertviz and circuitsvis: they see what the model computes, and can change it."""

import subprocess
import sys
from pathlib import Path

import bertviz
import circuitsvis
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM

from modeling_gpt2scratch import to_hf_gpt2
from tests.tools.conftest import PROMPTS


PROMPT = PROMPTS[0]


@pytest.fixture(scope="module")
def seen(learned, tokenizer):
    """The logits, hidden states and attentions of the first prompt; and its tokens."""
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    implementation = learned.config._attn_implementation
    learned.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = learned(ids, output_hidden_states=True, output_attentions=True)
    learned.set_attn_implementation(implementation)
    return outputs, [tokenizer.decode(token) for token in ids[0]]


def test_transformer_lens_records_and_switches_off_a_head(learned, tokenizer, seen):
    bridge = TransformerBridge.boot_transformers("gpt2", hf_model=to_hf_gpt2(learned), tokenizer=tokenizer)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(PROMPT, prepend_bos=False)
    torch.testing.assert_close(logits, seen[0].logits, atol=2e-5, rtol=0)
    for layer, pattern in enumerate(seen[0].attentions):
        torch.testing.assert_close(cache[f"blocks.{layer}.attn.hook_pattern"], pattern, atol=1e-5, rtol=0)
    torch.testing.assert_close(cache["blocks.0.hook_resid_post"], seen[0].hidden_states[1], atol=2e-5, rtol=0)

    def switch_off(mixed, hook):  # (B, T, H, D)
        mixed[:, :, 1] = 0
        return mixed

    with torch.no_grad():
        ids = bridge.to_tokens(PROMPT, prepend_bos=False)
        changed = bridge.run_with_hooks(ids, fwd_hooks=[("blocks.0.attn.hook_z", switch_off)])
        weight = learned.transformer.blocks[0].attention.out_proj.weight
        kept = weight.clone()
        weight[:, 64:] = 0
        expected = learned(ids).logits
        weight.copy_(kept)
    torch.testing.assert_close(changed, expected, atol=2e-5, rtol=0)
    assert (changed - logits).abs().max() > 0.1


def test_nnsight_reads_and_changes_by_our_names(custom_folder, seen, tmp_path):
    command = [sys.executable, Path(__file__).with_name("nnsight_trace.py"), custom_folder, PROMPT, tmp_path / "seen"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    found = torch.load(tmp_path / "seen")
    torch.testing.assert_close(found["hidden"], seen[0].hidden_states[1], atol=2e-5, rtol=0)
    torch.testing.assert_close(found["logits"], seen[0].logits, atol=2e-5, rtol=0)
    assert (found["changed"] - found["logits"]).abs().max() > 0.1


def test_attention_views_show_every_head(custom_folder, tokenizer, seen):
    model = AutoModelForCausalLM.from_pretrained(custom_folder, attn_implementation="eager")
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    attentions = model(ids, output_attentions=True).attentions  # of each layer (B, H, T, T)
    page = bertviz.head_view(attentions, seen[1], html_action="return").data
    assert '"Hamlet"' not in page
    assert " capital" in page
    for layer, weights in enumerate(attentions):
        torch.testing.assert_close(weights, seen[0].attentions[layer], atol=1e-5, rtol=0)
        view = str(circuitsvis.attention.attention_patterns(seen[1], weights[0]))
        assert " capital" in view
        assert view.count("[[") >= weights.shape[1]
