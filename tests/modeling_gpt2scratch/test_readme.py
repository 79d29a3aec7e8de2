"""The README's Python lines run as they stand, on models that are at hand."""

import re

import pytest
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from modeling_gpt2scratch import to_hf_gpt2


SNIPPETS = 2


@pytest.mark.parametrize("number", range(SNIPPETS))
def test_a_snippet_leaves_a_plain_gpt2(number, tiny_model, tokenizer, tmp_path, monkeypatch, repository):
    text = (repository / "modeling_gpt2scratch" / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(snippets) == SNIPPETS
    monkeypatch.chdir(tmp_path)
    tiny_model.save_pretrained("runs/demo")
    tokenizer.save_pretrained("runs/demo")
    to_hf_gpt2(tiny_model).save_pretrained("gpt2")
    exec(snippets[number].replace("openai-community/gpt2", "gpt2"), {})
    assert type(AutoModelForCausalLM.from_pretrained("exported")) is GPT2LMHeadModel
