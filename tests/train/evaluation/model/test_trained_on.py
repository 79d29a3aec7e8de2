import pytest
import yaml

from train.evaluation.model.trained_on import demo_recipe, read_trained_on


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


def test_an_old_recipe_is_read_under_the_names_of_today(read):
    assert read(dataset="sample", block_size=64).longest == 64


def test_a_recipe_without_a_length_asks_that_of_the_run_it_started_from(read, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "recipe.yaml").write_text("sequence_length: 64\n")
    assert read(dataset="sample", init_from=str(tmp_path / "base")).longest == 64
    assert read(dataset="sample", init_from="you/name").longest is None


def test_models_without_a_recipe_take_the_demos_rows():
    assert demo_recipe().data.dataset == "sample"
