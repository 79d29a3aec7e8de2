"""The loss on what the pre-training held out."""

import json

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.post_training.forgetting import ValidationSequences, find_pretraining_data, load_pretraining_sequences


def test_the_sequences_are_those_that_the_pre_training_evaluated_on(base, tokenizer):
    sequences = load_pretraining_sequences(str(base), 4, tokenizer, writes=True)
    assert sequences.count == 4
    evaluated = json.loads((base / "results.json").read_text())["evaluation"]["eval_loss"]
    assert sequences.mean_loss(GPT2ScratchForCausalLM.from_pretrained(base)) == pytest.approx(evaluated, rel=1e-5)


def test_the_loss_leaves_the_model_as_it_was_and_counts_tokens_once():
    class Model(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids, labels, **kwargs):
            assert not self.training
            return type("Output", (), {"loss": input_ids.float().mean()})

    batches = [{"input_ids": torch.full((rows, 3), rows), "labels": torch.zeros(rows, 3)} for rows in (1, 3)]
    model = Model().train()
    assert ValidationSequences(batches, 4).mean_loss(model) == pytest.approx((1 * 2 + 3 * 6) / 8)
    assert model.training


def test_runs_of_post_training_lead_back_to_the_pre_training(base, tmp_path):
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "recipe.yaml").write_text(f"method: sft\ninit_from: {base}\n")
    assert find_pretraining_data(str(tuned)) == find_pretraining_data(str(base))


@pytest.mark.parametrize("lacks", ["recipe", "rows"])
def test_a_loss_that_cannot_be_measured_is_warned_of(tokenizer, tmp_path, caplog, lacks):
    if lacks == "rows":
        (tmp_path / "recipe.yaml").write_text("dataset: nowhere.parquet\n")
    assert load_pretraining_sequences(str(tmp_path), 4, tokenizer, writes=True) is None
    assert "is not measured" in caplog.text


def test_none_are_loaded_where_none_are_wanted(tokenizer, tmp_path, caplog):
    assert load_pretraining_sequences(str(tmp_path), 0, tokenizer, writes=True) is None
    assert not caplog.text
