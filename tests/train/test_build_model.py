import json

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.build_model import build_model
from train.pretrain import main as pretrain
from train.settings.recipe import parse_recipe


@pytest.fixture
def build(tiny_recipe, tokenizer):
    def build(*words: str):
        recipe = parse_recipe(["--config", str(tiny_recipe), *words])
        return build_model(recipe.model, tokenizer, recipe.sequence_tokens, recipe.training.seed)

    return build


def test_the_seed_decides_the_weights(build):
    first, again = build(), build()
    other = build("--seed", "7")
    assert torch.equal(first.transformer.token_embedding.weight, again.transformer.token_embedding.weight)
    assert not torch.equal(first.transformer.token_embedding.weight, other.transformer.token_embedding.weight)


def test_a_head_count_that_does_not_divide_the_width_is_refused(build):
    with pytest.raises(ValueError, match="n_embd=16 is not divisible by n_head=3"):
        build("--n_head", "3")


def test_the_attention_function_is_as_asked(build):
    model = build("--attn_implementation", "eager")
    assert model.config._attn_implementation == "eager"


def test_a_run_can_start_from_another_runs_weights_with_its_own_dropout(build, tmp_path):
    first = build("--seed", "7")
    first.save_pretrained(tmp_path / "first")
    words = ("--init_from", str(tmp_path / "first"), "--attn_pdrop", "0.3", "--resid_pdrop", "0.2", "--embd_pdrop", "0")
    model = build(*words)
    assert isinstance(model, GPT2ScratchForCausalLM)
    assert torch.equal(model.lm_head.weight, first.lm_head.weight)
    assert model.transformer.blocks[0].attention.attention_dropout.p == model.config.attn_pdrop == 0.3
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.0, 0.2, 0.3}


def test_a_run_can_start_from_a_stock_gpt2(build, tmp_path):
    stock = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64))
    stock.save_pretrained(tmp_path / "stock")
    model = build("--init_from", str(tmp_path / "stock")).eval()
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(model(ids).logits, stock.eval()(ids).logits, rtol=0, atol=1e-5)


def test_a_block_longer_than_the_loaded_context_is_refused(build, tmp_path):
    build("--n_positions", "32").save_pretrained(tmp_path / "short")
    with pytest.raises(ValueError, match="sequence_length 48 is longer than the context"):
        build("--init_from", str(tmp_path / "short"), "--sequence_length", "48")


def test_a_model_of_another_architecture_is_refused_before_the_data(tiny_recipe, tmp_path, caplog):
    config = LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    words = ["--config", str(tiny_recipe), "--init_from", str(tmp_path / "llama")]
    assert pretrain(words) == 2
    assert "its model_type is llama, and only gpt2scratch and gpt2 can be used here" in caplog.messages[-1]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("stock", [False, True])
def test_a_model_that_reads_other_tokens_is_refused(build, tokenizer, tmp_path, stock):
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
    if stock:
        GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(tmp_path / "other")
    else:
        build().save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    build("--init_from", str(tmp_path / "other"))
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has another tokenizer than this run's"):
        build("--init_from", str(tmp_path / "other"))


def test_a_model_of_another_vocabulary_is_refused(build, tmp_path):
    config = GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=64, vocab_size=65, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "char")
    with pytest.raises(ValueError, match="has a vocabulary of 65; the 50,257 of the run's tokenizer are needed"):
        build("--init_from", str(tmp_path / "char"))
