import gc
import re

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
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
    plan = describe_plan(recipe("--gradient_accumulation_steps", "2", "--async_save", "true"), tokenizer)
    parameters = 50257 * 16 + 64 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    assert plan["parameters"] == f"{parameters:,}"
    assert plan["tokens per step"] == "256 = 4 sequences x 2 accumulated x 1 processes x 32 tokens"
    assert plan["steps"] == "12 (--max_steps), 3,072 tokens"
    assert "; 0.0 more of the host's in the main process, for --async_save" in plan["memory per process"]


def test_it_tells_the_arithmetic_and_the_hours(recipe, tokenizer):
    """Steps of 128 tokens, with the model above: 6 per weight that is multiplied, and attention."""
    plan = describe_plan(recipe("--max_steps", "1000", "--n_layer", "2"), tokenizer)
    weights = 50257 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
    a_token = 6 * weights + 12 * 2 * 16 * 32
    assert plan["compute"] == f"{128_000 * a_token:.3g} FLOPs, {a_token:.3g} a token"
    assert plan["tokens per parameter"].startswith(f"{128_000 / (weights + 64 * 16):.3g} ")
    hours = dict(part.rsplit(" ", 1) for part in plan["hours at 40% of the peak"].split("; "))
    on_h100 = float(hours["H100, with --bf16"])  # a GPU's peak is that of 16 bits, the recipe is in float32
    assert on_h100 == pytest.approx(128_000 * a_token / (0.4 * 989e12) / 3600, rel=0.01)
    assert float(hours["this machine, 1 process(es)"]) > on_h100
    assert not any("T4" in name for name in hours)


def test_hours_in_16_bits_need_no_other_format(recipe, tokenizer):
    plan = describe_plan(recipe("--bf16", "true", "--max_steps", "1000"), tokenizer)
    assert plan["hours at 40% of the peak"].startswith("H100 ")


def test_where_the_tokens_are_not_known_nothing_is_said_of_hours(recipe, tokenizer):
    plan = describe_plan(recipe("--dataset", "PleIAs/SYNTH", "--max_steps", "-1"), tokenizer)
    assert not [name for name in plan if "hours" in name or "compute" in name]


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


def build(**sizes) -> GPT2ScratchForCausalLM:
    """A model as a GPU trains it: without what is for CPUs only."""
    dropout = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
    config = GPT2ScratchConfig(**sizes, **dropout, bos_token_id=0, eos_token_id=0)
    return GPT2ScratchForCausalLM._from_config(config, attn_implementation="sdpa").train()


@pytest.mark.parametrize(("n_embd", "n_inner", "sequences"), [(64, None, 2), (96, 160, 3)])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_block_keeps_for_the_backward_pass_is_counted(n_embd, n_inner, sequences, half, checkpointing):
    """The estimate of a block more, beside the tensors that torch then saves more, weights apart."""
    estimated, kept = [], []
    for n_layer in (2, 3):
        model = build(n_embd=n_embd, n_inner=n_inner, n_layer=n_layer, n_head=2, n_positions=128, vocab_size=500)
        if checkpointing:
            model.activation_checkpointing_enable()
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor, saved=saved):
            saved[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other takes its place
            return tensor

        ids = torch.randint(500, (sequences, 128))
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.float16, enabled=half),
        ):
            model.transformer(input_ids=ids)
        kept.append(sum(saved[place].untyped_storage().nbytes() for place in saved.keys() - weights))
        if half and checkpointing:  # autocast then holds its copies of the weights, where the hooks do not see them
            kept[-1] += sum(2 * weight.numel() for weight in model.transformer.blocks.parameters() if weight.ndim == 2)
        sizes = {"sequences": sequences, "sequence_length": 128, "half": half, "checkpointing": checkpointing}
        estimated.append(activation_bytes(model.config, device_type="cpu", **sizes, eager=False))
    assert estimated[1] - estimated[0] == pytest.approx(kept[1] - kept[0], rel=0.03)


@pytest.mark.parametrize(("half", "checkpointing"), [(False, False), (True, False), (True, True)])
def test_the_memory_estimate_is_near_what_a_step_takes(half, checkpointing):
    """Counted by torch's profiler: what is allocated and not freed, at its peak, over a whole training step."""
    model = build(n_embd=128, n_layer=4, n_head=4, n_positions=64, vocab_size=5000)
    if checkpointing:
        model.activation_checkpointing_enable()
    ids = torch.randint(5000, (16, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    gc.collect()  # what is freed in between was there before
    with torch.profiler.profile(profile_memory=True) as profile:
        for _ in range(2):
            for _ in range(2):  # the second finds the gradients of the first
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    loss = model(ids, labels=ids).loss
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    measured = peak + 4 * model.num_parameters()  # the weights were there before
    sizes = {"sequences": 16, "sequence_length": 64, "half": half, "checkpointing": checkpointing}
    estimated = state_bytes(model.config, model.num_parameters(), "adamw")
    estimated += activation_bytes(model.config, device_type="cpu", **sizes, eager=False)
    assert 0.9 < estimated / measured < 1.2, (estimated, measured)
