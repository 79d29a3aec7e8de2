"""Every recipe in the repository parses, and its model builds."""

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.build_model import build_config
from train.dry_run import describe_plan
from train.settings.arguments import RECIPES_FOLDER
from train.settings.recipe import parse_recipe
from train.tokenizer.opening import open_tokenizer


RECIPES = sorted(RECIPES_FOLDER.glob("*.yaml"))
LAUNCH_CONFIGS = sorted((RECIPES_FOLDER / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_recipe_parses_and_its_model_builds(file, tmp_path, tokenizer):
    recipe = parse_recipe(["--config", str(file), "--output_dir", str(tmp_path), "--dry_run"])  # fp16 needs a GPU
    given = yaml.safe_load(file.read_text())
    assert recipe.settings.keys() >= given.keys()
    assert recipe.unread == []
    own = open_tokenizer("sample") if recipe.model.tokenizer == "sample" else tokenizer  # others are still to be made
    with torch.device("meta"):
        model = GPT2ScratchForCausalLM(build_config(recipe.model, own))
    assert model.config.vocab_size == (1280 if file.name == "demo.yaml" else 50_257)
    if "124m" in file.name:
        assert model.num_parameters() == 124_439_808


def test_the_origin_recipe_is_the_origins_run(tmp_path):
    file = RECIPES_FOLDER / "gpt2_124m_synth.yaml"
    recipe = parse_recipe(["--config", str(file), "--output_dir", str(tmp_path)])
    training = recipe.training
    assert (recipe.data.dataset, recipe.data.max_samples, recipe.data.languages) == (["PleIAs/SYNTH"], 50_000, ["en"])
    assert (recipe.data.sequence_length, training.per_device_train_batch_size, training.num_train_epochs) == (512, 8, 2)
    assert (training.learning_rate, training.weight_decay, training.max_grad_norm) == (3e-4, 0.1, 1.0)
    assert (training.eval_steps, training.save_steps, training.save_total_limit) == (500, 2000, 3)
    assert {recipe.model.embd_pdrop, recipe.model.attn_pdrop, recipe.model.resid_pdrop} == {0.1}


def test_with_a_small_tokenizer_most_parameters_are_in_blocks(tmp_path, tokenizer):
    file = RECIPES_FOLDER / "own_tokenizer.yaml"
    recipe = parse_recipe(["--config", str(file), "--output_dir", str(tmp_path)])
    config = build_config(recipe.model, tokenizer)
    config.vocab_size = 8192  # as its first lines train one
    with torch.device("meta"):
        model = GPT2ScratchForCausalLM(config)
    blocks = sum(parameter.numel() for parameter in model.transformer.blocks.parameters())
    assert model.num_parameters() > 8e6
    assert blocks / model.num_parameters() > 0.7


@pytest.mark.parametrize(
    ("name", "tokens_per_step"), [("gpt2_124m_synth_10b", 262_144), ("gpt2_124m_synth_10b_muon", 524_288)]
)
def test_the_serious_recipes_see_ten_billion_tokens(name, tokens_per_step, tmp_path):
    recipe = parse_recipe(["--config", str(RECIPES_FOLDER / f"{name}.yaml"), "--output_dir", str(tmp_path)])
    assert recipe.tokens_per_step == tokens_per_step
    assert 9.9e9 < recipe.tokens_per_step * recipe.training.max_steps < 10.1e9
    assert recipe.training.bf16
    assert recipe.training.torch_compile


@pytest.mark.parametrize(("gpu", "fitting", "too_small"), [("t4", "T4 16 GB", "RTX 8 GB"), ("rtx", "RTX 8 GB", None)])
def test_the_recipes_of_small_gpus_fit_them_with_the_batch_of_the_serious_one(
    gpu, fitting, too_small, tmp_path, tokenizer
):
    file = RECIPES_FOLDER / f"gpt2_124m_{gpu}.yaml"
    recipe = parse_recipe(["--config", str(file), "--output_dir", str(tmp_path), "--dry_run"])
    assert recipe.tokens_per_step == 262_144
    assert 0.99e9 < recipe.tokens_per_step * recipe.training.max_steps < 1.01e9
    fits = dict(word.split(": ") for word in describe_plan(recipe, tokenizer)["fits a GPU"].split("; "))
    assert fits[fitting] == "yes"
    assert too_small is None or fits[too_small] == "no"


@pytest.mark.parametrize("file", LAUNCH_CONFIGS, ids=lambda file: file.name)
def test_launch_config_is_one_that_accelerate_reads(file):
    config = load_config_from_file(str(file))
    assert config.num_processes == int("".join(letter for letter in file.stem if letter.isdigit()))
