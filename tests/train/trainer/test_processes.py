"""Two processes: exact resume, a change of their number amid a run, and the same loss and gradients as one."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from tests.train.forked_run import ForkedRun
from tests.train.trainer.sharded_step import STEPS, compare
from tests.train.trainer.unequal_labels import train_a_step
from train.pretrain import main


pytestmark = [pytest.mark.slow, pytest.mark.multiprocess]

NO_DROPOUT = ("--attn_pdrop", "0", "--resid_pdrop", "0", "--embd_pdrop", "0")


@pytest.fixture
def words(tiny_recipe):
    settings = {"max_steps": 40, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "save_steps": 100}
    more = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["--config", str(tiny_recipe), "--eval_steps", "20", "--max_eval_sequences", "7", *more]


def validation(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["eval_loss"] for entry in history if "eval_loss" in entry]


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_two_processes_resume_exactly(streaming, words, fork, run_to_end, stop_gently, tmp_path, log_by_step):
    """Dropout, accumulation and workers on, with two datasets; streams stop amid a full buffer, and their run saves
    while it trains."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"{number} is less than {number + 2}. " * 2}) + "\n" for number in range(150))
    )
    words = [*words, "--dataset", str(tmp_path / "rows.jsonl"), str(texts), "--dataset_weights", "0.6", "0.4"]
    words += ["--dataloader_num_workers", "1", "--streaming", streaming, "--shuffle_buffer", "25"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    best = ["--load_best_model_at_end", "true", "--save_steps", "20"]  # which is the last one, in all processes
    assert "Could not locate" not in run_to_end(fork([*words, *best, "--output_dir", str(whole)], processes=2))
    words += ["--output_dir", str(stopped), "--async_save", streaming, "--save_steps", "3"]
    assert 2 <= stop_gently(fork(words, processes=2), 2)[0] < 40
    run_to_end(fork([*words, "--resume_from_checkpoint", "true"], processes=2))
    assert log_by_step(stopped) == log_by_step(whole)
    assert validation(stopped) == validation(whole)
    data, again = (json.loads((folder / "results.json").read_text())["data"] for folder in (whole, stopped))
    assert again == data
    assert [part["schema"] for part in data["datasets"]] == ["synth", "text"]
    expected, found = load_file(whole / "model.safetensors"), load_file(stopped / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_streams_of_two_workers_go_on_in_two_processes(words, fork, run_to_end, stop_after, tmp_path, log_by_step):
    """The same batches in the same order, so the same losses but for rounding."""
    words = [*words, *NO_DROPOUT, "--streaming", "true", "--shuffle_buffer", "25"]
    workers = [*words, "--gradient_accumulation_steps", "4", "--dataloader_num_workers", "2"]
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    assert main([*workers, "--output_dir", str(whole)]) == 0
    stop_after(7)
    assert main([*workers, "--output_dir", str(changed)]) == 128 + signal.SIGTERM
    stop_after(None)
    run_to_end(fork([*words, "--output_dir", str(changed), "--resume_from_checkpoint", "true"], processes=2))
    expected, found = log_by_step(whole), log_by_step(changed)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=1e-4), step


def test_one_process_goes_on_as_two_and_as_one_again(
    words, fork, stop_after, stop_gently, tmp_path, log_by_step, caplog
):
    """The same sequences a step in the same order, so the same losses but for rounding; accumulation follows."""
    words = [*words, *NO_DROPOUT, "--global_batch_size", "4"]
    whole, changed = tmp_path / "whole", tmp_path / "changed"
    assert main([*words, "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(changed)]
    stop_after(5)
    assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    words += ["--resume_from_checkpoint", "true"]
    assert 7 <= stop_gently(fork(words, processes=2), 7)[0] < 40
    manifest = json.loads(
        max(changed.glob("checkpoint-*/manifest.json"), key=lambda path: path.stat().st_mtime).read_text()
    )
    assert (manifest["processes"], manifest["sequences_per_step"]) == (2, 4)
    assert main(words) == 0
    assert "made by 2 processes x 1 accumulated batches; going on with 1 x 2" in caplog.text
    expected, found = log_by_step(whole), log_by_step(changed)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=1e-4), step
    assert validation(changed) == pytest.approx(validation(whole), rel=1e-5)


def test_two_processes_have_the_loss_and_gradients_of_one(run_to_end, tiny_recipe, tmp_path):
    """Rows of unequal label counts: 8 sequences as 1 x 8 x 1 and as 2 x 2 x 2 (processes, batch, accumulated)."""
    results = {}
    for processes, batch, accumulated in ((1, 8, 1), (2, 2, 2)):
        result = tmp_path / f"{processes}.pt"
        run_to_end(ForkedRun(train_a_step, result, batch, accumulated, tiny_recipe, processes=processes))
        results[processes] = torch.load(result)
    assert results[2]["loss"] == pytest.approx(results[1]["loss"], rel=1e-6)
    assert results[2]["validation"] == pytest.approx(results[1]["validation"], rel=1e-6)
    for name, gradient in results[1]["gradients"].items():
        torch.testing.assert_close(results[2]["gradients"][name], gradient, atol=1e-7, rtol=1e-4)


def test_sharded_weights_train_as_whole_ones(run_to_end, tmp_path):
    """FSDP2 on two processes, also as transformers opens a model: the loss without logits, an odd vocabulary with
    a tied head, and Muon, which needs each matrix whole."""
    result = tmp_path / "result.json"
    run_to_end(ForkedRun(compare, result, processes=2))
    found = json.loads(result.read_text())
    assert found["found"] == pytest.approx(found["expected"], rel=1e-5)
    assert found["found_if_opened"] == pytest.approx(found["expected"], rel=1e-5)
    assert found["difference"] < 1e-4  # steps of 0.01
    assert found["sharded_parameters"] == 36
    assert found["losses_without_logits"] == 3 * STEPS  # no model made all logits
