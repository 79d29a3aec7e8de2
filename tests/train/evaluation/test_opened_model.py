import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

from train.checkpointing.checkpoints import write_manifest
from train.evaluation.opened_model import demo_recipe, open_model, read_trained_on
from train.evaluation.record import hash_weights
from train.settings.arguments import RECIPES_FOLDER


def test_a_model_without_a_recipe(tiny_folder):
    opened = open_model(str(tiny_folder))
    assert opened.trained_on is None
    assert (opened.window, opened.context) == (64, 64)
    assert opened.reads_after_end_of_text
    assert not opened.is_run_folder
    assert opened.describe() == {
        "name": "tiny",
        "parameters": opened.model.num_parameters(),
        "weights_sha256": hash_weights([tiny_folder / "model.safetensors"]),
        "window_tokens": 64,
    }


def test_a_run_folder_knows_its_rows(run_folder):
    opened = open_model(str(run_folder))
    assert opened.is_run_folder
    assert opened.window == 32  # of its training's sequences, and not the context
    assert opened.trained_on.data.validation_fraction == 0.3
    assert (opened.trained_on.exam, opened.trained_on.exam_tokens) == (None, 8)
    assert opened.describe()["trained_on"] == "rows.jsonl"  # no path of this machine


def test_a_checkpoint_opens_and_is_no_run_folder(run_folder, tmp_path):
    checkpoint = tmp_path / "demo" / "checkpoint-6"
    shutil.copytree(run_folder, checkpoint)
    opened = open_model(str(checkpoint))
    assert opened.trained_on is not None
    assert not opened.is_run_folder
    assert opened.label == "demo/checkpoint-6"


def test_a_model_from_the_hub_brings_its_recipe_and_the_name_of_its_weights(run_folder, tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "models--you--tiny"
    shutil.copytree(run_folder, hub / "snapshots" / "abc")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    opened = open_model("you/tiny")
    assert opened.trained_on.data.validation_fraction == 0.3
    assert opened.describe()["weights_sha256"] == hash_weights([run_folder / "model.safetensors"])
    assert (opened.label, opened.is_run_folder) == ("you/tiny", False)


def test_best_fit_is_read_without_end_of_text(run_folder):
    recipe = yaml.safe_load((run_folder / "recipe.yaml").read_text())
    (run_folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "packing": "best_fit"}))
    assert not open_model(str(run_folder)).reads_after_end_of_text


def test_a_folder_without_a_model_is_refused_with_the_likely_reason(run_folder, tmp_path):
    with pytest.raises(ValueError, match=r"is a file"):
        open_model(str(run_folder / "config.json"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"no config\.json"):
        open_model(str(empty))
    (run_folder / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(ValueError, match="still training, or was stopped"):
        open_model(str(run_folder))
    checkpoint = run_folder / "checkpoint-6"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    write_manifest(checkpoint, {})
    with pytest.raises(ValueError, match=r"newest checkpoint is .*checkpoint-6"):
        open_model(str(run_folder))


def test_what_is_nowhere_is_refused():
    with pytest.raises(ValueError, match="runs/nowhere: There is no such folder here"):
        open_model("runs/nowhere")


def test_damaged_files_are_refused(run_folder):
    (run_folder / "recipe.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        open_model(str(run_folder))
    (run_folder / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    with pytest.raises(ValueError, match="no such model"):
        open_model(str(run_folder))


def test_what_is_no_whole_model_is_refused(run_folder, tmp_path):
    checkpoint = tmp_path / "lora" / "checkpoint-6"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"checkpoint-6 holds an adapter .* name the run's own folder"):
        open_model(str(checkpoint))
    weights = load_file(run_folder / "model.safetensors")
    weights.pop("transformer.blocks.1.attention.q_proj.weight")
    save_file(weights, run_folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"its files lack transformer\.blocks\.1\.attention\.q_proj\.weight"):
        open_model(str(run_folder))


@pytest.fixture
def read(tmp_path):
    def read_settings(**settings):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
        return read_trained_on(tmp_path / "recipe.yaml")

    return read_settings


def test_recipes_of_pre_training_and_post_training(read):
    trained_on = read(dataset="sample", packing="best_fit", sequence_length=64, exam_tokens=8)
    assert (trained_on.data.packing, trained_on.longest, trained_on.exam_tokens) == ("best_fit", 64, 8)
    assert read(dataset="sample", packing=True, max_length=96, method="sft").longest == 96
    assert read(dataset="sample").longest is None
    assert read(learning_rate=1.0) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sequence_length", "long", "invalid int value: 'long'"),
        ("max_length", -3, "--max_length -3 must be at least 2"),
        ("validation_fraction", "x", "invalid float value: 'x'"),
        ("exam_tokens", "many", "invalid int value: 'many'"),
        ("exam_tokens", -1, "--exam_tokens -1 must be at least 1"),
        ("packing", "loose", "invalid choice: 'loose'"),
        ("sample_temperature", [1, 2], "unrecognized|invalid|not used"),
    ],
)
def test_a_value_that_is_none_of_its_settings_is_refused(read, name, value, message):
    with pytest.raises(ValueError, match=rf"recipe\.yaml: .*({message})"):
        read(**{"dataset": "sample", name: value})


def test_every_shipped_recipe_is_read():
    for recipe in (*RECIPES_FOLDER.glob("*.yaml"), *RECIPES_FOLDER.glob("post_training/*.yaml")):
        assert read_trained_on(recipe).data.dataset


def test_an_old_recipe_is_read_under_the_names_of_today(read):
    assert read(dataset="sample", block_size=64).longest == 64


def test_a_recipe_without_a_length_asks_that_of_the_run_it_started_from(read, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "recipe.yaml").write_text("sequence_length: 64\n")
    assert read(dataset="sample", init_from=str(tmp_path / "base")).longest == 64
    assert read(dataset="sample", init_from="you/name").longest is None


def test_models_without_a_recipe_take_the_demos_rows():
    assert demo_recipe().data.dataset == ["sample"]
