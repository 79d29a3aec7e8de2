import re

import pytest
import torch

from train.build_model import build_config, build_model
from train.data.from_settings import to_preparations
from train.data.sequences.prepare import prepare_data
from train.dry_run import activation_bytes, describe_plan, state_bytes
from train.settings.recipe import parse_recipe


@pytest.fixture
def recipe(tiny_recipe):
    def make(*words: str):
        return parse_recipe(["--config", str(tiny_recipe), "--dry_run", *words])

    return make


def test_it_tells_parameters_tokens_and_steps(recipe, tokenizer):
    plan = describe_plan(recipe("--gradient_accumulation_steps", "2"), tokenizer)
    parameters = 50257 * 16 + 64 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    assert plan["parameters"] == f"{parameters:,}"
    assert plan["tokens per step"] == "256 = 4 sequences x 2 accumulated x 1 processes x 32 tokens"
    assert plan["steps"] == "12 (--max_steps), 3,072 tokens"


def test_with_earlier_weights_the_sizes_are_theirs(recipe, tokenizer, tmp_path):
    first = recipe("--n_layer", "1", "--n_embd", "8", "--n_inner", "24")
    model = build_model(first.model, tokenizer, first.sequence_tokens, first.training.seed)
    model.save_pretrained(tmp_path / "first")
    later = recipe("--init_from", str(tmp_path / "first"))
    assert describe_plan(later, tokenizer)["parameters"] == f"{model.num_parameters():,}"
    assert {name: later.settings[name] for name in ("n_layer", "n_embd", "n_inner", "n_positions")} == {
        "n_layer": 1,
        "n_embd": 8,
        "n_inner": 24,
        "n_positions": 64,
    }


def test_epochs_are_counted_where_the_data_is_prepared_and_estimated_before(recipe, tokenizer):
    epochs = recipe("--max_steps", "-1", "--num_train_epochs", "3", "--max_samples", "200")
    estimated = describe_plan(epochs, tokenizer)["steps"]
    blocks = len(prepare_data(to_preparations(epochs.data, tokenizer)[0]).train)
    counted = describe_plan(epochs, tokenizer)["steps"]
    assert f"{3 * (blocks // 4)} = 3 epochs x {blocks // 4}" in counted
    assert "counted" in counted
    steps = int(re.match(r"(\d+) .*estimated", estimated)[1])
    assert abs(steps - 3 * (blocks // 4)) <= 0.15 * 3 * (blocks // 4)


def test_a_hub_that_cannot_be_reached_costs_only_the_number_of_steps(recipe, tokenizer):
    plan = describe_plan(recipe("--dataset", "PleIAs/SYNTH", "--max_steps", "-1"), tokenizer)
    assert plan["steps"] == "unknown: PleIAs/SYNTH cannot be read (ConnectionError)"
    assert plan["parameters"]


def test_muon_keeps_one_average_of_the_blocks_matrices(recipe, tokenizer):
    config = build_config(recipe().model, tokenizer)
    adamw, muon = (state_bytes(config, 10**6, name) for name in ("adamw", "muon"))
    assert adamw - muon == 4 * 2 * 12 * 16 * 16


@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_the_memory_estimate_is_near_what_a_step_takes(recipe, tokenizer, dropout):
    """Counted by torch's profiler: what is allocated and not freed, at its peak, over a whole training step."""
    words = ["--n_embd", "128", "--n_layer", "4", "--sequence_length", "64", "--per_device_train_batch_size", "16"]
    words += ["--embd_pdrop", dropout, "--attn_pdrop", dropout, "--resid_pdrop", dropout]
    plan = recipe(*words)
    model = build_model(plan.model, tokenizer, plan.sequence_tokens, plan.training.seed).train()
    ids = torch.randint(50257, (16, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.profiler.profile(profile_memory=True) as profile:
        for _ in range(2):
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    measured = peak + 4 * model.num_parameters()  # the weights were there before
    estimated = state_bytes(model.config, model.num_parameters(), "adamw") + activation_bytes(
        model.config,
        device_type="cpu",
        sequences=16,
        sequence_length=64,
        half=False,
        checkpointing=False,
        eager=False,
    )
    assert 0.75 < estimated / measured < 1.35, (estimated, measured)
