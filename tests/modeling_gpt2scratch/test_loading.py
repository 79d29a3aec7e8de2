"""A model that is not whole is refused by the names of its tensors, in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_gpt2scratch import TOKENIZER_FOLDER, GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.loading import has_tokenizer, load_own_tokenizer, load_whole_model


@pytest.fixture
def folder(tmp_path) -> Path:
    config = GPT2ScratchConfig(vocab_size=50, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    GPT2ScratchForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder: Path, changed) -> None:
    weights = load_file(folder / "model.safetensors")
    changed(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_whole_model_opens_with_its_tied_head(folder):
    model = load_whole_model(folder, ("gpt2scratch",), attn_pdrop=0.3)
    assert model.lm_head.weight is model.transformer.token_embedding.weight
    assert model.config.attn_pdrop == 0.3
    assert not model.training


QUERY = "transformer.blocks.1.attention.q_proj.weight"
FAULTS = {
    f"lack {QUERY}": lambda weights: weights.pop(QUERY),
    "has no place for: transformer.extra": lambda weights: weights.update({"transformer.extra": torch.ones(1)}),
    rf"{QUERY} \(4, 8\) in place of \(8, 8\)": lambda weights: weights.update({QUERY: torch.ones(4, 8)}),
    "damaged, not finite numbers in transformer.final_norm.bias": lambda weights: weights[
        "transformer.final_norm.bias"
    ].fill_(float("nan")),
    "lack .* and 1 more": lambda weights: [weights.pop(name) for name in sorted(weights)[:4]],
}


@pytest.mark.parametrize("message", FAULTS)
def test_tensors_that_do_not_fit_are_named(folder, message, caplog):
    change(folder, FAULTS[message])
    with pytest.raises(ValueError, match=message) as raised:
        load_whole_model(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value)
    assert not caplog.records


def test_damaged_files_are_told_in_one_line(folder, tmp_path):
    sharded = tmp_path / "sharded"
    GPT2ScratchForCausalLM.from_pretrained(folder).save_pretrained(sharded, max_shard_size="3KB")
    next(sharded.glob("*-00002-*.safetensors")).unlink()
    with pytest.raises(OSError, match="00002") as raised:
        load_whole_model(sharded)
    assert "\n" not in str(raised.value)
    config = (folder / "config.json").read_text()
    for text in ("null", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match="its files cannot be read"):
            load_whole_model(folder)
    (folder / "config.json").write_text(config)
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(2000)
    with pytest.raises(ValueError, match="its weights are damaged"):
        load_whole_model(folder)


def test_an_adapter_says_that_it_is_one(folder):
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds an adapter .* name the run's own folder"):
        load_whole_model(folder)


def test_another_type_of_model_is_refused(folder):
    with pytest.raises(ValueError, match="its model_type is gpt2scratch, and only gpt2 can be used"):
        load_whole_model(folder, ("gpt2",))


def test_a_tokenizer_beyond_the_vocabulary_is_refused(folder):
    assert not has_tokenizer(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER_FOLDER / file, folder)
    assert has_tokenizer(folder)
    assert len(load_own_tokenizer(folder, 50257)) == 50257
    with pytest.raises(ValueError, match="ids up to 50,256, and its model a vocabulary of 50"):
        load_own_tokenizer(folder, 50)
    (folder / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(ValueError, match=str(folder)) as raised:
        load_own_tokenizer(folder)
    assert "\n" not in str(raised.value)
