"""What TRL, PEFT or the generation refuse at the first step is refused in one line, before the data, by its name."""

import logging
import os
import random

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import AutoTokenizer, set_seed

from modeling_gpt2scratch import GPT2ScratchConfig
from tests.train.post_training.conftest import write_recipe
from train import finetune
from train.post_training.rehearsal import rehearse
from train.post_training.settings.recipe import parse_recipe


LOSS = "dpo --loss_type"


@pytest.fixture
def rehearse_with(own_tokenizer, tmp_path):
    """`rehearse_with(words)`: rehearse a method with these settings, as a small model would train."""
    tokenizer = AutoTokenizer.from_pretrained(own_tokenizer)
    config = GPT2ScratchConfig(
        vocab_size=len(tokenizer), n_positions=64, n_layer=2, tie_word_embeddings=False, eos_token_id=0
    )

    def call(words: str) -> None:
        method, *given = words.split()
        start = write_recipe(tmp_path / "recipe.yaml", method, {"output_dir": tmp_path / "run"})
        rehearse(parse_recipe([*start, *given]), config, tokenizer)

    return call


@pytest.mark.parametrize(
    "words",
    [
        "sft --packing true --bf16 true",
        "sft --fp16 true --dry_run --label_smoothing_factor 0.1",
        "sft --use_peft true --use_dora true --activation_checkpointing true",
        "sft --lr_scheduler_type warmup_stable_decay --max_steps 100 --decay_steps 50 --debug underflow_overflow",
        "dpo --precompute_ref_log_probs true --ld_alpha 0.5",
        "dpo --use_peft true --f_divergence_type alpha_divergence",
        f"{LOSS} aot --label_smoothing 0.1",
        "grpo --beta 0.1 --log_completions true --use_adaptive_entropy true",
        "grpo --beta 0.1 --use_peft true --num_generations_eval 1 --loss_type vespo",
        "grpo --generation_batch_size 24 --num_generations 4 --num_iterations 2",
        'grpo --steps_per_generation 4 --generation_kwargs {"num_beams":2,"max_new_tokens":20}',
        "grpo --use_transformers_continuous_batching true",
    ],
)
def test_what_runs_is_taken(rehearse_with, words):
    rehearse_with(words)


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ('sft --activation_checkpointing_kwargs {"selective":true}', "", "requires `gradient_checkpointing=True`"),
        (
            'sft --activation_checkpointing 1 --activation_checkpointing_kwargs {"selective":1,"use_reentrant":1}',
            "activation_checkpointing_kwargs",
            "requires non-reentrant",
        ),
        ("sft --use_peft true --lora_target_modules nothing", "lora_target_modules ['nothing']", "not found in the"),
        ("sft --use_peft true --lora_target_modules lm_head", "lora_target_modules", "adapter to `lm_head`"),
        ("sft --use_peft true --lora_target_modules final_norm", "lora_target_modules", "LayerNorm() is not supported"),
        ("sft --pad_to_multiple_of 0", "pad_to_multiple_of 0", "modulo by zero"),
        ("sft --pad_to_multiple_of 100", "pad_to_multiple_of 100", "do not fit the context of 64"),
        ("dpo --loss_type foo sft --loss_weights 1 1", "loss_type ['foo', 'sft']", "Unknown loss type: foo"),
        (f"{LOSS} exo_pair", "loss_type ['exo_pair']", "Label smoothing must be greater than 0.0"),
        (f"{LOSS} bco_pair --f_divergence_type forward_kl", "f_divergence_type forward_kl", "only supported for"),
        (f"{LOSS} aot --use_weighting true", "use_weighting True", "not implemented for 'aot'"),
        (f"{LOSS} robust --label_smoothing 0.5", "label_smoothing 0.5", "the loss is not a finite number"),
        (f"{LOSS} ipo --beta 0", "beta 0.0", "division by zero"),
        (f"{LOSS} discopop --discopop_tau 0", "discopop_tau 0.0", "the loss is not a finite number"),
        ("dpo --f_divergence_type x", "f_divergence_type x", "Unknown f_divergence_type: x"),
        ("dpo --use_peft true --lora_target_modules lm_head", "lora_target_modules", "adapter to `lm_head`"),
        ("grpo --loss_type x", "loss_type x", "Unknown loss type: x"),
        ("grpo --importance_sampling_level x", "importance_sampling_level x", "Possible values are 'token'"),
        ("grpo --multi_objective_aggregation x", "multi_objective_aggregation x", "Must be 'sum_then_normalize'"),
        ("grpo --scale_rewards x", "scale_rewards x", "Must be one of 'batch', 'group', or 'none'"),
        ("grpo --sapo_temperature_neg 0 --loss_type sapo", "sapo_temperature_neg 0.0", "not a finite number"),
        ("grpo --num_generations_eval 3 --eval_strategy no", "num_generations_eval 3", "must be divisible by"),
        ("grpo --generation_batch_size 0", "generation_batch_size 0", "positive integer"),
        ("grpo --steps_per_generation 0", "steps_per_generation 0", "positive integer"),
        ("grpo --num_iterations 0", "num_iterations 0", "no batch comes of it"),
        ("grpo --min_p 2", "min_p 2.0", "in the [0, 1] interval"),
        ("grpo --repetition_penalty 0", "repetition_penalty 0.0", "strictly positive float"),
        ("grpo --cache_implementation x", "cache_implementation x", "Choose one of"),
        ('grpo --generation_kwargs {"top_q":1}', "generation_kwargs", "generation has no setting top_q"),
        ('grpo --generation_kwargs {"top_p":-1}', "generation_kwargs", "`top_p` has to be"),
        ('grpo --generation_kwargs {"num_return_sequences":2}', "generation_kwargs", "Sizes of tensors must match"),
        (
            'grpo --use_transformers_continuous_batching true --transformers_continuous_batching_config {"a":1}',
            "transformers_continuous_batching_config",
            "unexpected keyword argument 'a'",
        ),
        ("grpo --use_peft true --lora_target_modules lm_head", "lora_target_modules", "adapter to `lm_head`"),
    ],
)
def test_what_would_end_the_first_step_is_refused_by_name(rehearse_with, words, name, message):
    with pytest.raises(ValueError) as refusal:
        rehearse_with(words)
    assert f"--{name}" in str(refusal.value)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def random_states() -> tuple:
    numpy_state = np.random.get_state()[1]  # noqa: NPY002 (what Trainers seed)
    return random.getstate(), numpy_state.tolist(), torch.get_rng_state().tolist()


def test_a_rehearsal_leaves_no_trace(rehearse_with, tmp_path, capfd, caplog, recwarn):
    caplog.set_level(logging.INFO)
    set_seed(1)
    states = random_states()
    environment = dict(os.environ)
    rehearse_with("grpo --beta 0.1 --log_completions true")
    assert random_states() == states
    assert dict(os.environ) == environment
    assert (capfd.readouterr(), caplog.text, list(recwarn)) == (("", ""), "", [])
    assert not AcceleratorState._shared_state
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("words", [(), ("--dry_run",)], ids=["run", "dry run"])
def test_the_script_refuses_it_before_the_data(sft_words, tmp_path, monkeypatch, caplog, words):
    monkeypatch.setattr(finetune, "load_data", None)
    words = [*sft_words, "--pad_to_multiple_of", "100", "--output_dir", str(tmp_path / "run"), *words]
    assert finetune.main(words) == 2
    assert not (tmp_path / "run").exists()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("finetune.py: --pad_to_multiple_of 100: a step of sft on a tiny model fails: ")
