"""NaN ends the run at its step; a spike is reported or left out."""

import json
import math
import shutil
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from train.callbacks.loss_guard import WINDOW_STEPS, LossGuard
from train.data.sequences.packing import collate_sequences
from train.errors import RunFailedError
from train.pretrain import main
from train.trainer.pretraining import PretrainingTrainer


def filled(**settings):
    guard = LossGuard(**{"spike_score": 6.0, "skip_spikes": False, "describe_step": "rows of {}".format, **settings})
    for step in range(WINDOW_STEPS):
        assert guard.allows(step + 1, torch.tensor(3.0 + 0.1 * (step % 2)), torch.tensor(1.0))
    return guard


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (3.0, math.nan), (3.0, math.inf), (-math.inf, 1.0)]
)
def test_what_is_not_finite_ends_the_run(loss, norm):
    with pytest.raises(RunFailedError, match=r"Step 129: .*rows of 129"):
        filled().allows(129, torch.tensor(loss), torch.tensor(norm))


def test_a_spike_is_reported_and_taken(caplog):
    guard = filled()
    assert guard.allows(129, torch.tensor(9.0), torch.tensor(1.0))
    assert "Step 129: the loss of 9.000 is 119.0 standard deviations" in caplog.text
    assert guard.recent_losses[-1] == 9.0


def test_a_spike_is_left_out_by_choice():
    guard = filled(skip_spikes=True)
    assert not guard.allows(129, torch.tensor(9.0), torch.tensor(1.0))
    assert max(guard.recent_losses) < 4  # it does not make the next one look ordinary
    assert not guard.allows(130, torch.tensor(9.0), torch.tensor(1.0))
    assert guard.allows(131, torch.tensor(3.3), torch.tensor(1.0))


def test_no_spike_is_seen_before_the_window_is_full_or_when_switched_off():
    guard = LossGuard(6.0, True, str)
    assert all(guard.allows(step, torch.tensor(float(step % 2 * 100)), torch.tensor(1.0)) for step in range(100))
    assert filled(spike_score=0.0, skip_spikes=True).allows(129, torch.tensor(900.0), torch.tensor(1.0))


def test_a_step_that_is_still_on_its_way_is_judged_before_anything_is_saved():
    """On an accelerator, values arrive later; here they lie ready."""
    guard = filled()
    guard._pending = (129, torch.tensor([math.nan, 1.0]), Mock())
    with pytest.raises(RunFailedError, match="Step 129"):
        guard.settle()
    guard.settle()


@pytest.fixture
def poison(monkeypatch):
    """`poison(step, value)` puts a value in the place of a step's loss; returns the batches that were trained on."""
    original = PretrainingTrainer.training_step
    seen = {}

    def choose(bad_step, value):
        def training_step(self, model, inputs, num_items_in_batch=None):
            step = self.state.global_step + 1
            seen.setdefault(step, []).append(inputs["input_ids"])
            loss = original(self, model, inputs, num_items_in_batch)
            if step == bad_step:
                self._step_loss = self._step_loss + value
            return loss

        monkeypatch.setattr(PretrainingTrainer, "training_step", training_step)
        return seen

    return choose


@pytest.mark.parametrize("bad_step", [20, 23])
def test_a_run_stops_at_a_nan_and_names_its_rows(poison, tiny_recipe, tmp_path, caplog, bad_step, monkeypatch):
    """Also at an epoch's end, 20, and beyond it, where rows come in another order."""
    seen = poison(bad_step, math.nan)
    trainers = []
    original = PretrainingTrainer.train
    monkeypatch.setattr(PretrainingTrainer, "train", lambda self, *a: trainers.append(self) or original(self, *a))
    words = ["--config", str(tiny_recipe), "--max_steps", "40", "--gradient_accumulation_steps", "2"]
    assert main([*words, "--save_steps", "2", "--report_to", "none"]) == 1
    assert f"Step {bad_step}: the loss is nan" in caplog.text
    assert "learning rate" in caplog.text
    (trainer,) = trainers
    assert len(trainer.train_dataset) // 8 == 20
    rows = trainer.rows_of_step(bad_step)
    expected = torch.cat(seen[bad_step])
    assert torch.equal(collate_sequences([trainer.train_dataset[row] for row in rows])["input_ids"], expected)
    assert f"training sequences {', '.join(map(str, sorted(rows)))};" in caplog.text
    newest = max(int(path.name[11:]) for path in (tmp_path / "run").glob("checkpoint-*"))
    assert newest == (bad_step - 1) // 2 * 2
    assert json.loads((tmp_path / "run" / f"checkpoint-{newest}" / "trainer_state.json").read_text())


def test_a_skipped_step_changes_no_weight_and_the_window_survives_a_resume(
    poison, tiny_recipe, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("train.callbacks.loss_guard.WINDOW_STEPS", 6)
    poison(9, 50.0)
    words = ["--config", str(tiny_recipe), "--save_steps", "1", "--save_total_limit", "20", "--report_to", "none"]
    words += ["--skip_loss_spikes", "true"]
    assert main([*words, "--max_steps", "10"]) == 0
    assert "Step 9: the loss of 5" in caplog.text and "left out" in caplog.text
    weights = {step: load_file(tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors") for step in (7, 8, 9, 10)}
    same = {
        step: all(torch.equal(weights[step][name], weights[step - 1][name]) for name in weights[step])
        for step in (8, 9, 10)
    }
    assert same == {8: False, 9: True, 10: False}

    (tmp_path / "run" / "results.json").unlink()  # or it would be finished
    for step in (9, 10):
        shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    caplog.clear()
    assert main([*words, "--max_steps", "10", "--resume_from_checkpoint", "true"]) == 0
    assert "Step 9: the loss of 5" in caplog.text  # judged by the losses of steps that the first start took
    again = load_file(tmp_path / "run" / "checkpoint-10" / "model.safetensors")
    assert all(torch.equal(again[name], weights[10][name]) for name in again)
