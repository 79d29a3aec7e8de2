"""Preference: what is learned from pairs that rows bring and that the model makes, resuming, and what is refused."""

import json
import math

import pytest

from tests.train.post_training.finished_runs import check_equal_runs, greedy_answer, history
from train.finetune import main as finetune


@pytest.fixture
def words(toss_words):
    return toss_words("dpo", max_length=64, pair_tokens=8, per_device_train_batch_size=4)


@pytest.fixture
def preferences(tmp_path):
    """Rows that bring their pairs: tails are better."""
    file = tmp_path / "preferences.jsonl"
    rows = [{"prompt": f"Toss {number}.", "chosen": "tails", "rejected": "heads"} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_what_rows_prefer_becomes_likelier(words, preferences, tmp_path):
    assert finetune([*words, "--dataset", str(preferences)]) == 0
    losses, margins = (history(tmp_path / "run", name) for name in ("loss", "rewards/margins"))
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are the same model
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > 0.3
    assert losses[-1] < losses[0] - 0.1
    assert greedy_answer(tmp_path / "run", "Toss 7.") == "A: tails<|endoftext|>"


def test_pairs_are_made_of_the_model_s_own_answers(words, tmp_path, caplog):
    caplog.set_level("INFO")
    assert finetune([*words, "--loss_type", "sigmoid", "sft", "--loss_weights", "1", "1"]) == 0  # as in the demo
    assert "Of 8 answers to each of 18 questions" in caplog.text
    pairs = [json.loads(line) for line in (tmp_path / "run" / "pairs.jsonl").read_text().splitlines()]
    assert {pair["split"] for pair in pairs} == {"train", "validation"}
    for pair in pairs:
        assert pair["chosen"] == "A: heads<|endoftext|>"
        assert pair["rejected"] != pair["chosen"]
    assert history(tmp_path / "run", "rewards/margins")[-1] > 0.3
    assert greedy_answer(tmp_path / "run", "Toss 7.") == "A: heads<|endoftext|>"


@pytest.mark.slow
def test_a_resumed_run_equals_one_left_alone(words, tmp_path, stop_after, caplog):
    words = [*words, "--max_steps", "4", "--eval_steps", "2"]
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    assert finetune([*words, "--output_dir", str(alone)]) == 0
    stop_after(1)
    assert finetune([*words, "--output_dir", str(stopped)]) == 128 + 15
    stop_after(None)
    resume = [*words, "--output_dir", str(stopped), "--resume_from_checkpoint", "true"]
    pairs = stopped / "pairs.jsonl"
    aside = pairs.rename(tmp_path / "aside.jsonl")
    assert finetune(resume) == 2
    assert "pairs.jsonl is gone" in caplog.text
    aside.rename(pairs)
    assert finetune(resume) == 0
    check_equal_runs(stopped, alone, ("loss", "grad_norm", "rewards/margins", "tokens_seen", "eval_loss"))


@pytest.mark.slow
def test_adapters_learn_it_too(words, preferences, tmp_path):
    lora = ["--use_peft", "true", "--lora_r", "8", "--lora_alpha", "64", "--learning_rate", "2e-2"]
    assert finetune([*words, *lora, "--dataset", str(preferences)]) == 0
    margins = history(tmp_path / "run", "rewards/margins")
    assert margins[0] == pytest.approx(0, abs=1e-4)  # the reference is the model without its adapter
    assert margins[-1] > 0.3
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_answers_that_are_all_wrong_give_no_pairs(words, changed_tosses, caplog):
    assert finetune([*words, "--dataset", changed_tosses({"synthetic_answer": "edge"})]) == 2
    assert "for none of the questions are some right and some wrong (0.0% are right)" in caplog.text


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("--padding_free", "true"), "--padding_free True: it needs flash attention"),
        (("--sync_ref_model", "true"), "--sync_ref_model True: a checkpoint does not hold the reference"),
        (("--pair_samples", "1"), "--pair_samples 1 must be at least 2"),
        (("--pair_temperature", "0"), "--pair_temperature 0.0 must be above 0"),
        (("--pair_tokens", "64"), "--pair_tokens 64 leaves no room for a question in --max_length 64"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(words, caplog, setting, message):
    assert finetune([*words, *setting]) == 2
    assert message in caplog.text
