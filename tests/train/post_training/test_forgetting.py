"""The loss on what the pre-training held out."""

import dataclasses
import json
import re
import shutil

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.evaluation.exam.exam import ExamResult
from train.post_training.before_after import Standing, describe_standings, render_standings
from train.post_training.forgetting import ValidationSequences, find_pretraining_data, load_pretraining_blocks
from train.post_training.settings.recipe import parse_recipe


@pytest.fixture
def recipe(sft_words, tmp_path):
    def parse(*words):
        return parse_recipe([*sft_words, "--output_dir", str(tmp_path / "run"), *words])

    return parse


def test_the_blocks_are_those_that_the_pre_training_evaluated_on(recipe, base, tokenizer):
    blocks = load_pretraining_blocks(recipe("--forgetting_sequences", "4"), tokenizer)
    assert blocks.blocks == 4
    evaluated = json.loads((base / "results.json").read_text())["evaluation"]["eval_loss"]
    assert blocks.loss(GPT2ScratchForCausalLM.from_pretrained(base)) == pytest.approx(evaluated, rel=1e-5)


def test_the_loss_leaves_the_model_as_it_was_and_counts_tokens_once():
    class Model(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids, labels, **kwargs):
            assert not self.training
            return type("Output", (), {"loss": input_ids.float().mean()})

    batches = [{"input_ids": torch.full((rows, 3), rows), "labels": torch.zeros(rows, 3)} for rows in (1, 3)]
    model = Model().train()
    assert ValidationSequences(batches, 4).loss(model) == pytest.approx((1 * 2 + 3 * 6) / 8)
    assert model.training


def test_runs_of_post_training_lead_back_to_the_pre_training(base, tmp_path):
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "recipe.yaml").write_text(f"method: sft\ninit_from: {base}\n")
    assert find_pretraining_data(str(tuned)) == find_pretraining_data(str(base))


@pytest.mark.parametrize("lacks", ["recipe", "rows"])
def test_what_cannot_be_measured_is_said(recipe, base, tokenizer, tmp_path, caplog, lacks):
    model = tmp_path / "model"
    shutil.copytree(base, model)
    if lacks == "recipe":
        (model / "recipe.yaml").unlink()
    else:
        (model / "recipe.yaml").write_text("dataset: nowhere.parquet\n")
    assert load_pretraining_blocks(recipe("--init_from", str(model)), tokenizer) is None
    assert "is not measured" in caplog.text


def test_none_are_loaded_where_none_are_wanted(recipe, tokenizer, caplog):
    assert load_pretraining_blocks(recipe("--forgetting_sequences", "0"), tokenizer) is None
    assert not caplog.text


def test_the_table_has_before_and_after_of_every_figure():
    before = ExamResult("mcq", correct=1, asked=4, chance=0.25, well_formed=2, ended=3)
    after = dataclasses.replace(before, correct=2, well_formed=4, ended=4)
    first, second = Standing([before], 2.0), Standing([after], 2.5)
    *_, line, forgotten = render_standings(first, second).splitlines()
    before_and_after = ["25.0%", "50.0%", "15.0% to 85.0%", "50.0%", "100.0%", "75.0%", "100.0%"]
    assert re.split(r"  +", line) == ["mcq", "4", "25.0%", *before_and_after]
    assert forgotten.startswith("validation loss of the pre-training: 2.0000 before, 2.5000 after (+0.5000 ")
    results = describe_standings(first, second, ValidationSequences([], 7))
    assert results["forgetting"] == {"pretraining_loss_before": 2.0, "pretraining_loss": 2.5, "blocks": 7}
    assert (results["exam"][0]["correct"], results["exam_before"][0]["correct"]) == (2, 1)
    assert render_standings(Standing([], None), Standing([], None)) == ""
