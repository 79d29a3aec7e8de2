"""Reinforcement: what is scored, that it is learned from, that it resumes, and what is refused."""

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from tests.train.post_training.finished_runs import check_equal_runs, greedy_answer, history
from train.data.rows.synth import question_to_ids
from train.finetune import main as finetune
from train.post_training.build_trainer import build_trainer
from train.post_training.data.from_settings import to_preparation
from train.post_training.data.prepare import load_data
from train.post_training.settings.recipe import parse_recipe
from train.post_training.start import load_start_model


@pytest.fixture
def words(toss_words):
    return toss_words(
        "grpo",
        max_completion_length=8,
        num_generations=8,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        gradient_accumulation_steps=2,
        max_eval_samples=1,
        loss_spike_score=0,
    )


@pytest.fixture
def build(words):
    """The Trainer of the recipe, with changed settings."""

    def build(*changes):
        recipe = parse_recipe([*words, *map(str, changes)])
        tokenizer = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
        model = load_start_model(recipe, tokenizer)
        data = load_data(to_preparation(recipe, tokenizer, model.config.max_position_embeddings))
        return build_trainer(recipe, model, tokenizer, data, [])

    return build


def test_a_batch_padded_on_the_left_scores_each_answer_where_it_was_written(build):
    """TRL's own way gives another text's figures where questions differ in length."""
    trainer = build("--temperature", "0.7")
    tokenizer, model = trainer.processing_class, trainer.model.eval()
    answers = tokenizer(["A: heads", "A: tails"])["input_ids"]
    questions = [question_to_ids(text, tokenizer) for text in ("Q: Toss 3.", "Q: Toss 3 and 4 and 5.")]
    texts = [torch.tensor(question + answer) for question, answer in zip(questions, answers, strict=True)]
    ids = pad_sequence(texts, batch_first=True, padding_value=50256, padding_side="left")
    mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True, padding_side="left")
    found, entropies, _ = trainer._get_per_token_logps_and_entropies(
        model, ids, mask, logits_to_keep=3, batch_size=1, compute_entropy=True
    )
    for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        logits = model(torch.tensor([question + answer])).logits[0, len(question) - 1 : -1] / 0.7
        expected = logits.log_softmax(dim=-1)
        chosen = expected.gather(1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(found[row], chosen, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropies[row], -(expected.exp() * expected).sum(dim=-1), atol=1e-5, rtol=1e-5)
    assert not entropies.requires_grad
    theirs, _, _ = super(type(trainer), trainer)._get_per_token_logps_and_entropies(model, ids, mask, 3)
    assert (theirs[0] - found[0]).abs().max() > 0.01
    torch.testing.assert_close(theirs[1], found[1], atol=1e-5, rtol=1e-5)  # the one without padding


def test_questions_are_encoded_as_in_training(build):
    trainer = build()
    prompts, _, _ = trainer._tokenize_prompts(["Q: <|endoftext|>"])
    assert prompts == [question_to_ids("Q: <|endoftext|>", trainer.processing_class)]
    assert 50256 not in prompts[0]


def test_what_is_rewarded_becomes_likelier(words, tmp_path, caplog):
    caplog.set_level("INFO")
    assert finetune([*words, "--max_steps", "9"]) == 0
    rewards = history(tmp_path / "run", "rewards/accuracy_reward/mean")
    assert len(rewards) == 9
    assert 0.2 < rewards[0] < 0.8
    assert sum(rewards[-4:]) / 4 > rewards[0] + 0.2
    assert history(tmp_path / "run", "tokens_seen") == sorted(history(tmp_path / "run", "tokens_seen"))
    assert "Of 8 answers to each of 18 questions" in caplog.text
    assert history(tmp_path / "run", "eval_rewards/accuracy_reward/mean")[-1] > 0.9
    assert greedy_answer(tmp_path / "run", "Toss 7.") == "A: heads<|endoftext|>"
    assert AutoTokenizer.from_pretrained(tmp_path / "run").pad_token is None


@pytest.mark.slow
def test_a_resumed_run_equals_one_left_alone(words, tmp_path, stop_after):
    words = [*words, "--max_steps", "4", "--eval_steps", "2"]
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    assert finetune([*words, "--output_dir", str(alone)]) == 0
    stop_after(1)
    assert finetune([*words, "--output_dir", str(stopped)]) == 128 + 15
    stop_after(None)
    assert finetune([*words, "--output_dir", str(stopped), "--resume_from_checkpoint", "true"]) == 0
    check_equal_runs(stopped, alone, ("loss", "grad_norm", "reward", "entropy", "tokens_seen", "eval_loss"))


@pytest.mark.slow
def test_answers_that_serve_for_several_steps_resume_in_phase(words, tmp_path, stop_after, caplog):
    """Not bit for bit, and the run says so; it generates at the same steps all the same."""
    caplog.set_level("INFO")
    several = ["--steps_per_generation", "4", "--num_iterations", "2", "--max_steps", "6", "--eval_strategy", "no"]
    stop_after(3)
    assert finetune([*words, *several]) == 128 + 15
    assert "the same in distribution, not bit for bit" in caplog.text
    stop_after(None)
    assert finetune([*words, *several, "--resume_from_checkpoint", "true"]) == 0
    assert len(history(tmp_path / "run", "loss")) == 6
    assert history(tmp_path / "run", "step", "reward") == [1, 4, 5]  # 4 as what step 1 had sampled is gone


@pytest.mark.slow
def test_adapters_learn_it_too(words, tmp_path):
    lora = ["--use_peft", "true", "--lora_r", "8", "--lora_alpha", "64", "--beta", "0.01", "--max_steps", "8"]
    assert finetune([*words, *lora]) == 0
    assert history(tmp_path / "run", "eval_rewards/accuracy_reward/mean")[-1] > 0.8
    assert history(tmp_path / "run", "kl")[-1] > 0
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()


def test_a_reference_holds_the_model_back(words, tmp_path):
    assert finetune([*words, "--beta", "0.5", "--max_steps", "2"]) == 0
    assert history(tmp_path / "run", "kl")[0] == pytest.approx(0, abs=1e-6)


def test_questions_whose_answers_are_all_wrong_are_refused(words, changed_tosses, tmp_path, caplog):
    assert finetune([*words, "--dataset", changed_tosses({"synthetic_answer": "edge"})]) == 2
    assert "for none of the questions are some right and some wrong (0.0% are right)" in caplog.text
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("--use_vllm", "true"), "--use_vllm True: vLLM needs other versions"),
        (("--reward_weights", "1"), "--reward_weights 1.0: there are 2"),
        (("--temperature", "0"), "--temperature 0.0 must be above 0"),
        (("--num_generations", "3"), "divisible by"),
        (("--max_completion_length", "100"), "64"),
        (("--max_lenght", "100"), "There is no setting 'max_lenght'. Did you mean '"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(words, caplog, setting, message):
    assert finetune([*words, *setting]) in (1, 2)
    assert message in caplog.text
