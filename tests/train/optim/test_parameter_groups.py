"""Which weights each optimizer moves, at which rate, and that a saved one goes on as it was."""

import copy

import pytest
import torch
from torch.optim import AdamW

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.optim.muon import newton_schulz
from train.optim.parameter_groups import MuonWithAdamW
from train.settings.recipe import parse_recipe
from train.trainer.pretraining import PretrainingTrainer


@pytest.fixture
def build(tiny_recipe):
    """A trainer whose model is tiny, with its optimizer made."""

    def build(*words):
        words = [
            "--config",
            str(tiny_recipe),
            "--report_to",
            "none",
            "--eval_strategy",
            "no",
            "--learning_rate",
            "0.01",
            *words,
        ]
        recipe = parse_recipe(words)
        torch.manual_seed(0)
        config = GPT2ScratchConfig(vocab_size=50, n_layer=2, n_head=2, n_embd=8, n_positions=16, attn_pdrop=0.0)
        model = GPT2ScratchForCausalLM(config)
        trainer = PretrainingTrainer(
            model=model, args=recipe.training, data_name="test", sequence_tokens=16, **recipe.trainer_values()
        )
        trainer.create_optimizer_and_scheduler(num_training_steps=10)
        return trainer

    return build


def names_by_group(trainer):
    names = {parameter: name for name, parameter in trainer.model.named_parameters()}
    return [{names[parameter] for parameter in group["params"]} for group in trainer.optimizer.param_groups]


def train_step(model, optimizer, seed):
    ids = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(seed))
    model.eval()(ids, labels=ids, skip_logits=True).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


MUON = ("--optim_name", "muon")


@pytest.mark.parametrize("words", [MUON, ("--hidden_lr_scale", "2")])
def test_every_weight_is_in_one_group(build, words):
    trainer = build(*words)
    vectors, embeddings, hidden = names_by_group(trainer)
    everything = [name for name, _ in trainer.model.named_parameters()]
    assert sorted([*vectors, *embeddings, *hidden]) == sorted(everything)
    assert embeddings == {"transformer.token_embedding.weight", "transformer.position_embedding.weight"}
    matrices = ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj"]
    matrices += ["feed_forward.up_proj", "feed_forward.down_proj"]
    assert hidden == {f"transformer.blocks.{block}.{matrix}.weight" for block in (0, 1) for matrix in matrices}


def test_each_kind_has_its_rate_and_decay(build):
    trainer = build(*MUON, "--hidden_lr_scale", "3", "--embedding_lr_scale", "0.5", "--weight_decay", "0.2")
    groups = trainer.optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.01, 0.005, 0.03])
    assert [group["weight_decay"] for group in groups] == [0.0, 0.2, 0.2]


def test_the_log_shows_the_rate_that_was_given(build):
    trainer = build(*MUON, "--hidden_lr_scale", "3", "--lr_scheduler_type", "constant")
    assert trainer._get_learning_rate() == pytest.approx(0.01)


def test_muon_moves_the_blocks_matrices_and_adamw_the_rest(build):
    """The first step of each is known: AdamW's is the learning rate for every weight, Muon's has equal lengths in all
    directions."""
    trainer = build(*MUON, "--weight_decay", "0", "--lr_scheduler_type", "constant")
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    train_step(trainer.model, trainer.optimizer, seed=1)
    moved = {name: parameter.detach() - before[name] for name, parameter in trainer.model.named_parameters()}
    assert moved["transformer.final_norm.weight"].abs().max().item() == pytest.approx(0.01, rel=1e-3)
    lengths = torch.linalg.svdvals(moved["transformer.blocks.0.feed_forward.up_proj.weight"])
    # But one: the inputs' mean is zero after the norm, so the gradient has no part in that direction.
    assert lengths[0] / lengths[-2] < 2


def test_without_settings_of_its_own_the_optimizer_is_stocks(build):
    trainer = build()
    assert type(trainer.optimizer) is AdamW
    assert len(trainer.optimizer.param_groups) == 2


def test_adamw_with_equal_scales_trains_as_stock(build):
    """Groups change nothing by themselves: a scale of nearly one gives nearly stock's weights."""
    stock, grouped = build(), build("--hidden_lr_scale", "1.0000001")
    assert len(grouped.optimizer.param_groups) == 3
    for step in range(3):
        for trainer in (stock, grouped):
            train_step(trainer.model, trainer.optimizer, step)
    for expected, found in zip(stock.model.parameters(), grouped.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_saved_muon_goes_on_as_it_was(build):
    """Into a fresh optimizer, and into one that has already stepped: neither may keep a state of its own."""
    trainer = build(*MUON)
    train_step(trainer.model, trainer.optimizer, 1)
    weights = copy.deepcopy(trainer.model.state_dict())
    saved = copy.deepcopy(trainer.optimizer.state_dict())
    train_step(trainer.model, trainer.optimizer, 2)
    expected = copy.deepcopy(trainer.model.state_dict())
    other = build(*MUON)
    for _ in range(2):
        other.model.load_state_dict(weights)
        other.optimizer.load_state_dict(copy.deepcopy(saved))
        train_step(other.model, other.optimizer, 2)
        for name, tensor in other.model.state_dict().items():
            assert torch.equal(tensor, expected[name]), name


def test_the_state_holds_one_average_for_a_matrix_and_two_for_the_rest(build):
    trainer = build(*MUON)
    train_step(trainer.model, trainer.optimizer, 1)
    assert isinstance(trainer.optimizer, MuonWithAdamW)
    *others, hidden = trainer.optimizer.param_groups
    for parameter in hidden["params"]:
        assert trainer.optimizer.state[parameter].keys() == {"momentum_buffer"}
    for group in others:
        for parameter in group["params"]:
            assert trainer.optimizer.state[parameter].keys() == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optim_name", "adam"], "invalid choice: 'adam'"),
        (["--hidden_lr_scale", "0"], "--hidden_lr_scale 0.0 must be above 0"),
        (["--embedding_lr_scale", "-1"], "--embedding_lr_scale -1.0 must be at least 0"),
        (["--muon_momentum", "1"], r"--muon_momentum 1.0 must be in \[0, 1\)"),
        (["--decay_steps", "0"], "--decay_steps 0.0 must be above 0"),
        ([*MUON, "--optim", "adafactor"], "--optim adafactor does not go with --optim_name muon"),
    ],
)
def test_settings_that_cannot_work_are_refused(build, words, message):
    with pytest.raises(ValueError, match=message):
        build(*words)


@pytest.mark.parametrize("in_bf16", [False, True])
def test_muon_computes_in_the_precision_of_the_run(build, in_bf16, monkeypatch):
    asked = []

    def watched(matrices, in_bf16):
        asked.append(in_bf16)
        return newton_schulz(matrices, in_bf16)

    monkeypatch.setattr("train.optim.muon.newton_schulz", watched)
    trainer = build(*MUON, "--bf16", str(in_bf16))
    train_step(trainer.model, trainer.optimizer, seed=1)
    assert set(asked) == {in_bf16}
