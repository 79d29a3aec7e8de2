import math
from functools import partial
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors import SafetensorError
from transformers import TrainerCallback

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.next_token_loss import ALIGNED_COLUMNS, CHUNK_ROWS
from train.callbacks import throughput
from train.data.sequences.packing import collate_sequences
from train.errors import RunFailedError
from train.settings.recipe import parse_recipe
from train.trainer.pretraining import PretrainingTrainer


VOCABULARY, BLOCK = 5000, 64


@pytest.fixture
def build(tiny_recipe, tmp_path):
    """A trainer on 48 random blocks, with settings of a test's choice."""

    def build(*words, collator=collate_sequences):
        settings = {
            "sequence_length": BLOCK,
            "per_device_train_batch_size": 16,
            "per_device_eval_batch_size": 16,
            "max_steps": 3,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": "true",
            "seed": 0,
        }
        given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        recipe = parse_recipe(["--config", str(tiny_recipe), *given, *words])
        torch.manual_seed(0)
        ids = torch.randint(VOCABULARY, (48, BLOCK))
        blocks = Dataset.from_dict({"input_ids": ids.tolist()}).with_format("numpy")
        config = GPT2ScratchConfig(
            vocab_size=VOCABULARY, n_layer=1, n_head=2, n_embd=16, n_positions=BLOCK, bos_token_id=0, eos_token_id=0
        )
        for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop"):
            setattr(config, name, 0.0)
        return PretrainingTrainer(
            model=GPT2ScratchForCausalLM(config),
            args=recipe.training,
            train_dataset=blocks,
            eval_dataset=blocks,
            data_collator=collator,
            sequence_tokens=BLOCK,
            data_name="test",
            **recipe.trainer_values(),
        )

    return build


@pytest.fixture
def trainer(build):
    return build()


def collate_unequal(examples):
    """Each row's first token decides how many labels it has, from 2 to 49; the rest is ignored."""
    batch = collate_sequences(examples)
    labels = batch["input_ids"].clone()
    for row in labels:
        row[int(row[0]) % 48 + 2 :] = -100
    return {**batch, "labels": labels}


@pytest.mark.parametrize("smoothing", ["0", "0.1"])
def test_evaluation_is_the_mean_over_tokens_and_its_perplexity(build, smoothing):
    """The plain cross-entropy, whatever the training minimises."""
    trainer = build("--label_smoothing_factor", smoothing)
    metrics = trainer.evaluate()
    model = trainer.model.eval()
    ids = torch.tensor(trainer.eval_dataset["input_ids"][:])
    with torch.no_grad():
        expected = model(ids, labels=ids).loss.item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)


@pytest.mark.parametrize("batch_size", [5, 48])
def test_the_evaluation_batch_does_not_change_the_loss(trainer, batch_size):
    expected = trainer.evaluate()["eval_loss"]
    trainer.args.per_device_eval_batch_size = batch_size
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_neither_training_nor_evaluation_holds_all_logits(trainer, largest_tensor, monkeypatch):
    monkeypatch.setattr(throughput, "measured_peak_flops", lambda *args, **kwargs: 1e12)  # multiplies large matrices
    all_logits = 16 * BLOCK * VOCABULARY
    with largest_tensor() as largest:
        trainer.train()
        trainer.evaluate()
    assert 0 < largest.elements <= CHUNK_ROWS * (VOCABULARY + ALIGNED_COLUMNS) < 0.6 * all_logits


def test_log_lines_carry_tokens_and_their_rate(trainer):
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [line["tokens_seen"] for line in lines] == [16 * BLOCK * step for step in (1, 2, 3)]
    assert all(line["tokens_per_second"] > 0 for line in lines[1:])
    assert all(0 <= line["data_wait"] < 1 for line in lines[1:])
    assert all(0 < line["mfu"] < 1.5 and line["eta_seconds"] >= 0 and line["memory_gib"] > 0 for line in lines[1:])


@pytest.mark.parametrize("accumulated", [1, 2])
def test_label_smoothing_is_that_of_the_next_token(build, accumulated):
    words = ("--label_smoothing_factor", "0.1", "--max_steps", "1", "--gradient_accumulation_steps", str(accumulated))
    trainer = build(*words, collator=collate_unequal)
    batch = collate_unequal([trainer.train_dataset[row] for row in trainer.rows_of_step(1)])
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_ids"]).logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten(), label_smoothing=0.1)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("batch_size", ["1", "7", "48"])
def test_the_validation_loss_counts_tokens_not_batches(build, batch_size):
    """Rows of unequal label counts: a mean of batch means would depend on the batches."""
    trainer = build("--per_device_eval_batch_size", batch_size, collator=collate_unequal)
    whole = collate_unequal([trainer.eval_dataset[row] for row in range(48)])
    with torch.no_grad():
        expected = trainer.model.eval()(**whole).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_labels_adds_nothing(build):
    trainer = build("--per_device_eval_batch_size", "8")
    hidden = {int(trainer.eval_dataset[row]["input_ids"][0]) for row in range(24)}

    def hide_first_half(examples):
        batch = collate_sequences(examples)
        rows = torch.tensor([int(ids[0]) in hidden for ids in batch["input_ids"]])
        return {**batch, "labels": batch["input_ids"].masked_fill(rows[:, None], -100)}

    trainer.data_collator = hide_first_half
    second_half = collate_sequences([trainer.eval_dataset[row] for row in range(24, 48)])
    with torch.no_grad():
        expected = trainer.model.eval()(**second_half).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-6)


def test_accumulation_changes_neither_loss_nor_gradient(build):
    """1 x 8, 2 x 4 and 8 x 1 sequences with unequal label counts; fp32, so equal to about 1e-6."""

    class Gradients(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            self.found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    seen = []
    for accumulated, size in ((1, 8), (2, 4), (8, 1)):
        words = ("--gradient_accumulation_steps", str(accumulated), "--per_device_train_batch_size", str(size))
        trainer = build(*words, "--max_steps", "1", "--max_grad_norm", "0", collator=collate_unequal)
        trainer.add_callback(gradients := Gradients())
        trainer.train()
        seen.append((trainer.state.log_history[0]["loss"], gradients.found))
        rows = trainer.rows_of_step(1)
        assert len(rows) == 8
    (loss, gradients), *others = seen
    whole = collate_unequal([trainer.train_dataset[row] for row in rows])
    for other_loss, other_gradients in others:
        assert other_loss == pytest.approx(loss, rel=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(other_gradients[name], gradient, atol=1e-7, rtol=1e-4)
    torch.manual_seed(0)
    untrained = build(collator=collate_unequal).model
    assert loss == pytest.approx(untrained(**whole).loss.item(), rel=1e-6)


def test_a_finished_run_trains_no_step_more(build, tmp_path):
    trainer = build("--save_strategy", "steps", "--save_steps", "3")
    trainer.train()
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    again = build("--save_strategy", "steps", "--save_steps", "3", "--resume_from_checkpoint", "true")
    again.train(tmp_path / "run" / "checkpoint-3")
    assert again.state.global_step == 3
    assert all(torch.equal(tensor, weights[name]) for name, tensor in again.model.state_dict().items())


def test_a_final_model_that_cannot_be_written_leaves_the_one_before(trainer, monkeypatch):
    run = trainer.run_folder
    run.mkdir(exist_ok=True)
    (run / "model.safetensors").write_text("before")

    def fill_disk(folder):
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors").write_text("half")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(trainer, "save_model", fill_disk)
    with pytest.raises(RunFailedError, match=r"model.safetensors could not be written .* No space left"):
        trainer.save_final_model()
    assert (run / "model.safetensors").read_text() == "before"
    assert not (run / "unfinished").exists()


def test_the_saved_model_is_compared_with_the_trained_one(trainer, monkeypatch):
    trainer.train()
    trainer.save_checked_model()
    weights = trainer.run_folder / "model.safetensors"
    assert weights.is_file()
    save = trainer.save_final_model

    def save_another():
        torch.nn.init.normal_(trainer.model.transformer.final_norm.weight)
        save()

    monkeypatch.setattr(trainer, "save_final_model", save_another)
    with pytest.raises(RunFailedError, match=r"The saved model is not the trained one \(its loss is \d"):
        trainer.save_checked_model()
    assert not weights.exists()
    monkeypatch.setattr(trainer, "save_model", partial(trainer.model.save_pretrained, max_shard_size="20KB"))
    with pytest.raises(RunFailedError, match=r"The saved model is not the trained one"):
        trainer.save_checked_model()  # in several files
    assert not list(trainer.run_folder.glob("model*"))


def test_a_resume_does_not_warn_of_the_tied_head(build, tmp_path, caplog):
    build("--save_strategy", "steps", "--save_steps", "3").train()
    again = build("--save_strategy", "steps", "--save_steps", "3", "--resume_from_checkpoint", "true")
    again.train(tmp_path / "run" / "checkpoint-3")
    assert "missing keys" not in caplog.text
    assert again.model.lm_head.weight is again.model.transformer.token_embedding.weight
