"""A saved folder opens with every Auto class, with this package and without it, and can be saved again from there."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, GPT2ScratchModel, save_as_hf_gpt2


CODE_FILES = {
    "attention.py",
    "auto_classes.py",
    "causal_lm.py",
    "config.py",
    "feed_forward.py",
    "gelu.py",
    "gpt_model.py",
    "layer_norm.py",
    "next_token_loss.py",
    "saved_folder.py",
    "task_heads.py",
    "transformer_block.py",
}


@pytest.fixture
def saved(tiny_model, tokenizer, tmp_path):
    tiny_model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_it_opens_with_the_package_and_no_trust(saved, tiny_model, input_ids):
    assert type(AutoConfig.from_pretrained(saved)) is GPT2ScratchConfig
    assert type(AutoModel.from_pretrained(saved)) is GPT2ScratchModel
    model = AutoModelForCausalLM.from_pretrained(saved)
    assert type(model) is GPT2ScratchForCausalLM
    assert torch.equal(model.eval()(input_ids).logits, tiny_model(input_ids).logits)
    assert AutoTokenizer.from_pretrained(saved)("Hello")["input_ids"] == [15496]


@pytest.mark.slow
def test_it_opens_without_the_package_and_saves_again(saved, tiny_model, tmp_path, run_without_package):
    """Twice: what the first child process saves, as language model and as body, the second opens and saves again."""
    code = """
    for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
        config = AutoConfig.from_pretrained(source, trust_remote_code=True)
        assert config.n_layer == 3 and config.hidden_size == 32
        model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True).eval()
        body = AutoModel.from_pretrained(source, trust_remote_code=True).eval()
        assert torch.equal(body(torch.arange(5)[None])[0], model.transformer(torch.arange(5)[None])[0])
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=True)
        assert tokenizer("Hello")["input_ids"] == [15496]
        assert model.generate(torch.arange(5)[None], max_new_tokens=3, pad_token_id=0).shape[1] > 5
        for saving, folder in ((model, target), (body, target + "_body"), (config, target + "_config")):
            saving.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        torch.save(logits_of(model), target + "_config/logits.pt")
    """
    expected = tiny_model(torch.arange(20).view(2, 10)).logits
    auto_map = json.loads((saved / "config.json").read_text())["auto_map"]
    first = [(saved, tmp_path / "again")]
    second = [(tmp_path / "again", tmp_path / "third"), (tmp_path / "again_body", tmp_path / "fourth")]
    for pairs in (first, second):
        run_without_package(code, *(path for pair in pairs for path in pair))
        for _, target in pairs:
            logits = torch.load(f"{target}_config/logits.pt")
            torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)
            assert names(target) == names(saved)
            assert names(Path(f"{target}_config")) >= CODE_FILES
            config = (target / "config.json").read_text()
            assert json.loads(config)["auto_map"] == auto_map
            assert str(tmp_path) not in config


def test_task_heads_open_without_the_package(tiny_model, tmp_path, run_without_package):
    tiny_model.save_pretrained(tmp_path / "language_model")
    code = """
    import transformers
    folder, target = sys.argv[1:]
    body = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    for task in ("SequenceClassification", "TokenClassification", "QuestionAnswering"):
        auto_class = getattr(transformers, f"AutoModelFor{task}")
        model = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
        ids = torch.arange(10)[None]
        assert torch.equal(model.transformer(ids)[0], body(ids)[0]), task
        model.save_pretrained(f"{target}/{task}")
        again = auto_class.from_pretrained(f"{target}/{task}", trust_remote_code=True).eval()
        assert torch.equal(again(ids)[0], model(ids)[0]), task
    assert not {"datasets", "matplotlib", "tensorboard"} & sys.modules.keys()  # which the code does not need
    """
    run_without_package(code, tmp_path / "language_model", tmp_path)


def test_the_export_opens_as_a_plain_gpt2_where_this_package_is_absent(
    tiny_model, tmp_path, tokenizer, run_without_package
):
    save_as_hf_gpt2(tiny_model, tokenizer, tmp_path / "exported")
    code = """
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    assert type(model) is GPT2LMHeadModel
    assert AutoTokenizer.from_pretrained(sys.argv[1])("Hello")["input_ids"] == [15496]
    torch.save(logits_of(model.eval()), sys.argv[2])
    """
    run_without_package(code, tmp_path / "exported", tmp_path / "logits.pt")
    expected = tiny_model(torch.arange(20).view(2, 10)).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected, atol=2e-6, rtol=1e-5)
    assert {file.name for file in (tmp_path / "exported").iterdir()} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_every_class_saves_all_code_and_names_every_class(tiny_model, tmp_path):
    for name, saving in (("model", tiny_model), ("body", tiny_model.transformer), ("config", tiny_model.config)):
        saving.save_pretrained(tmp_path / name)
        assert {file for file in names(tmp_path / name) if file.endswith(".py")} == CODE_FILES
        assert json.loads((tmp_path / name / "config.json").read_text())["auto_map"] == {
            "AutoConfig": "auto_classes.GPT2ScratchConfig",
            "AutoModel": "auto_classes.GPT2ScratchModel",
            "AutoModelForCausalLM": "auto_classes.GPT2ScratchForCausalLM",
            "AutoModelForQuestionAnswering": "auto_classes.GPT2ScratchForQuestionAnswering",
            "AutoModelForSequenceClassification": "auto_classes.GPT2ScratchForSequenceClassification",
            "AutoModelForTokenClassification": "auto_classes.GPT2ScratchForTokenClassification",
        }


def test_weights_are_safetensors_with_one_copy_of_the_tied_matrix(saved):
    assert not [file for file in names(saved) if file.endswith((".bin", ".pt", ".pth", ".pkl"))]
    with safe_open(saved / "model.safetensors", "pt") as weights:
        tied = {"lm_head.weight", "transformer.token_embedding.weight"} & set(weights.keys())
    assert len(tied) == 1


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_as_readable_as_the_user_wants_them(tiny_model, tokenizer, tmp_path, umask):
    """A colleague, or a server under another user, can read what a usual umask lets them read."""
    before = os.umask(umask)
    try:
        tiny_model.save_pretrained(tmp_path / "custom")
        tokenizer.save_pretrained(tmp_path / "custom")
        save_as_hf_gpt2(tiny_model, tokenizer, tmp_path / "exported")
        tiny_model.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    finally:
        os.umask(before)
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    for file in tmp_path.glob("*/*"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask, file


def test_tools_find_context_stop_token_and_chat_form(saved):
    """Servers and evaluation harnesses take them from these files."""
    tokenizer_config = json.loads((saved / "tokenizer_config.json").read_text())
    assert tokenizer_config["model_max_length"] == 1024
    assert "chat_template" not in tokenizer_config
    assert "Reasoning:" in (saved / "chat_template.jinja").read_text()


def test_the_generation_config_says_where_a_text_ends(tmp_path):
    with torch.device("meta"):
        model = GPT2ScratchForCausalLM(GPT2ScratchConfig(n_embd=12, n_layer=1))
    model.generation_config.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    assert (settings["bos_token_id"], settings["eos_token_id"]) == (50256, 50256)


def test_tying_survives_saving_loading_and_a_new_vocabulary_size(saved):
    model = AutoModelForCausalLM.from_pretrained(saved)
    assert model.lm_head.weight is model.transformer.token_embedding.weight
    model.resize_token_embeddings(230)
    assert model.lm_head.weight is model.transformer.token_embedding.weight
    assert model(torch.tensor([[229]])).logits.shape == (1, 1, 230)
