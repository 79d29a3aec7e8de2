"""Recipes of post-training: the method decides which settings there are."""

import pytest
import yaml

from train.post_training.settings.recipe import POST_TRAINING_DEFAULTS, parse_recipe
from train.settings.arguments import RECIPES_FOLDER


RECIPES = sorted((RECIPES_FOLDER / "post_training").glob("*.yaml"))


@pytest.fixture
def parse(tmp_path):
    def parse(text="", *words):
        file = tmp_path / "recipe.yaml"
        file.write_text(f"output_dir: {tmp_path / 'run'}\n{text}")
        return parse_recipe(["--config", str(file), *words])

    return parse


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_every_shipped_recipe_parses(file, tmp_path):
    recipe = parse_recipe(["--config", str(file), "--output_dir", str(tmp_path)])
    given = yaml.safe_load(file.read_text())
    assert recipe.settings.keys() >= given.keys()
    assert recipe.unread == []
    assert recipe.method in file.stem
    assert recipe.settings["output_dir"] == str(tmp_path)
    if "124m" in file.name:
        assert recipe.sequence_tokens <= 1024


def test_no_words_at_all_are_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = parse_recipe([])
    assert (recipe.method, recipe.start.init_from) == ("sft", "runs/demo")
    assert (recipe.rows.dataset, recipe.training.output_dir) == (["sample"], "runs/demo_sft")


@pytest.mark.parametrize(
    ("method", "kind", "own", "others"),
    [
        ("sft", "SFTConfig", "packing_strategy", "beta"),
        ("dpo", "DPOConfig", "f_divergence_type", "packing"),
        ("grpo", "GRPOConfig", "num_generations", "packing"),
    ],
)
def test_the_method_decides_which_settings_there_are(parse, method, kind, own, others):
    recipe = parse(f"method: {method}")
    assert type(recipe.training).__name__ == kind
    assert hasattr(recipe.training, own)
    assert not hasattr(recipe.training, others)
    assert parse("", "--method", method).method == method
    with pytest.raises(ValueError, match=f"There is no setting '{others}'"):
        parse(f"method: {method}\n{others}: 1")


def test_defaults_give_way_to_yaml_and_yaml_to_the_command_line(parse):
    recipe = parse("learning_rate: 5e-4\nmax_length: 32\n", "--max_length", "48")
    assert (recipe.training.learning_rate, recipe.sequence_tokens) == (5e-4, 48)
    assert recipe.training.weight_decay == POST_TRAINING_DEFAULTS["weight_decay"]
    # What TRL would switch on by itself.
    assert not recipe.training.bf16
    assert not recipe.training.activation_checkpointing
    assert parse("activation_checkpointing: true").training.activation_checkpointing


def test_the_resolved_recipe_reads_back_to_the_same_settings(parse, tmp_path):
    first = parse("use_peft: true\nlora_target_modules: [q_proj, v_proj]\nlearning_rate: 1e-3\npacking: true\n")
    (tmp_path / "resolved.yaml").write_text(first.to_yaml())
    again = parse_recipe(["--config", str(tmp_path / "resolved.yaml")])
    assert again.settings == first.settings
    assert again.lora.lora_target_modules == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: ppo", "--method ppo: there are sft, dpo, grpo"),
        ("lerning_rate: 1", "Did you mean 'learning_rate'"),
        ("n_layer: 2", "There is no setting 'n_layer'"),
        ("max_length: 1", "--max_length 1 must be at least 2"),
        ("max_samples: 0", "--max_samples 0 must be at least 1"),
        ("validation_fraction: 0", "must be between 0 and 1"),
        ("forgetting_sequences: -1", "--forgetting_sequences -1 must be at least 0"),
        ("lora_r: 8", "--use_peft true is not"),
        ("use_peft: true\nlora_r: 0", "--lora_r 0 must be at least 1"),
        ("use_peft: true\nlora_dropout: 1", "--lora_dropout 1.0 must be in"),
        ("use_peft: true\noptim_name: muon", "--use_peft trains adapters"),
        ("push_to_hub: true", "python -m hub_card.publish"),
        ("completion_only_loss: false", "the loss is always on what the assistant says"),
        ("assistant_only_loss: true", "the loss is always on what the assistant says"),
        ("padding_free: true", "--packing true leaves out padding, too"),
        ("eos_token: x", "it is <|endoftext|>"),
        ("save_only_model: true", "cannot be resumed from"),
        ("learning_rate: 0", "must be above 0"),
        ("method: dpo\nlabel_smoothing_factor: 0.1", "it is for losses per token"),
        ("metric_for_best_model: rewards/margins", "this run has loss, perplexity"),
        ("method: dpo\nmetric_for_best_model: perplexity", "this run has loss, rewards/accuracies, rewards/margins"),
        ("exam_tokens: 0", "--exam_tokens 0 must be at least 1"),
    ],
)
def test_a_mistake_is_refused_by_name(parse, text, message):
    with pytest.raises(ValueError) as refusal:
        parse(text)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("metric", "is_greater_better"), [("eval_rewards/margins", True), ("rewards/rejected", False), ("loss", False)]
)
def test_a_metric_has_its_direction(parse, metric, is_greater_better):
    recipe = parse(f"method: dpo\nmetric_for_best_model: {metric}")
    assert recipe.training.greater_is_better is is_greater_better


def test_help_shows_our_own_settings_first_then_those_of_the_method(capsys):
    texts = {}
    for word in ("--help", "--help_all"):
        with pytest.raises(SystemExit):
            parse_recipe([word, "--method", "grpo"])
        texts[word] = capsys.readouterr().out
    shown = texts["--help"]
    names = ("--init_from", "--dataset", "--use_peft", "--forgetting_sequences", "--num_generations", "--learning_rate")
    places = [shown.index(f"  {name} ") for name in names]
    assert places == sorted(places)
    assert "--vllm_mode" not in shown
    assert "--vllm_mode" in texts["--help_all"]
    assert "--max_length" not in texts["--help_all"]
