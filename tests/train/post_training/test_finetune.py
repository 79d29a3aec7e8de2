"""The script, from the words of its command line to the run folder that it leaves."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub_card.staging import find_run, stage
from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.finetune import main
from train.pretrain import main as pretrain
from train.run_report.run_record import read_run
from train.run_report.tables import exam_marks


PACKED = ("--packing", "true", "--sample_prompts", "What follows 3?", "--sample_tokens", "6")
LORA = (*PACKED, "--use_peft", "true", "--lora_r", "2", "--lora_dropout", "0.1")


@pytest.fixture
def finished(shared, sft_words, rows):
    """`finished(*words)`: the folder of a run that was left alone."""

    def run(*words):
        folder = shared / f"finished-{len(words)}"
        if not folder.exists():
            exam = ("--exam", str(rows), "--exam_tokens", "8")
            assert main([*sft_words, *words, *exam, "--output_dir", str(folder)]) == 0
        return folder

    return run


def test_the_run_folder_holds_what_a_pre_training_leaves(finished, base, tmp_path):
    folder = finished(*PACKED)
    files = {path.name for path in folder.iterdir()}
    assert {path.name for path in base.iterdir()} - {"checkpoint-4"} <= files
    assert {"checkpoint-6", "checkpoint-12", "samples.jsonl"} <= files
    results = json.loads((folder / "results.json").read_text())
    assert results["method"] == "sft"
    assert results["init_from"] == str(base)
    assert results["forgetting"]["sequences"] == 2
    assert results["forgetting"]["pretraining_loss"] != results["forgetting"]["pretraining_loss_before"]
    assert sum(mark["asked"] for mark in results["exam"]) == 200
    assert {mark["exercise"] for mark in results["exam"]} == {"memorization, known", "memorization, new"}
    assert results["evaluation"]["eval_loss"] > 0
    assert results["data"]["kept_rows"]["train"] + results["data"]["kept_rows"]["validation"] == 200
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    seen = [entry["tokens_seen"] for entry in log if "tokens_seen" in entry]
    assert seen == sorted(set(seen))
    assert results["tokens_seen"] == seen[-1] <= 12 * 4 * 64
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() == results["parameters"]
    assert model.config.use_cache is True
    assert AutoTokenizer.from_pretrained(folder).model_max_length == model.config.n_positions < 1024
    assert stage(find_run(folder), tmp_path, "you/name")["main"].is_dir()


def test_a_live_report_shows_the_exam_before_training(finished):
    table = exam_marks(read_run(finished(*PACKED), is_held=True))  # as while it trains
    assert "exact match\nbefore" in table.header
    assert not any("after" in title for title in table.header)
    assert sum(int(row[1]) for row in table.rows) == 200


@pytest.mark.slow
@pytest.mark.parametrize(("words", "stops"), [(PACKED, [6, 9]), (LORA, [5])], ids=["packed, dropout", "LoRA"])
def test_stopped_and_resumed_equals_never_stopped(finished, sft_words, shared, stop_after, log_by_step, words, stops):
    whole = finished(*words)
    folder = shared / f"stopped-{len(words)}-{len(stops)}"
    words = [*sft_words, *words, "--output_dir", str(folder), "--resume_from_checkpoint", "auto"]
    words += ["--async_save", "true", "--save_steps", "2"]
    for stop in stops:
        stop_after(stop)
        assert main(words) == 128 + signal.SIGTERM
    stop_after(None)
    assert main(words) == 0
    expected, found = log_by_step(whole), log_by_step(folder)
    assert list(expected) == list(range(1, 13))
    assert found == expected
    assert (folder / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    weights, others = (load_file(run / "model.safetensors") for run in (whole, folder))
    assert all(torch.equal(weights[name], others[name]) for name in weights | others)


@pytest.mark.slow
def test_a_checkpoint_of_lora_holds_the_adapter_only(finished):
    folder = finished(*LORA)
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    checkpoint = {path.name for path in (folder / "checkpoint-12").iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "manifest.json", "recipe.yaml"} <= checkpoint
    assert "model.safetensors" not in checkpoint
    assert "adapter_config.json" not in {path.name for path in folder.iterdir()}


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(sft_words, tmp_path, capsys):
    run = tmp_path / "dry"
    assert main([*sft_words, "--use_peft", "true", "--dry_run", "--output_dir", str(run)]) == 0
    plan = capsys.readouterr().out
    assert "use_peft: true" in plan
    assert "tokens per step, at most  256 = 2 sequences x 2 accumulated x 1 processes x 64 tokens" in plan
    assert "200 of the first 200 are usable" in plan
    trained = int(plan.split("of which ")[1].split(" ")[0].replace(",", ""))
    assert 0 < trained < 20_000
    assert not run.exists()


def test_without_the_demo_it_says_what_to_do_first(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert "finetune.py: --init_from runs/demo holds no finished model yet: run `make pretrain` first." in caplog.text
    assert not (tmp_path / "runs" / "demo").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--lerning_rate", "1"), "Did you mean 'learning_rate'?"),
        (("--init_from", "./nowhere"), "--init_from ./nowhere: there is no such folder"),
        (("--init_from", "{empty}"), "holds no model: a run leaves it there at its end"),
        (("--init_from", "{other}"), "has a vocabulary of 100; the 50,257 of the run's tokenizer are needed"),
        (("--max_length", "65"), "--max_length 65 is longer than the context of"),
        (("--dataset", "{empty}"), "found no rows"),
        (("--dataset", "{text}"), "has no column query, synthetic_answer or messages"),
        (("--dataset", "you/nowhere"), "you/nowhere"),
        (("--exam", "nowhere.parquet"), "nowhere.parquet"),
        (("--resume_from_checkpoint", "true"), "holds no complete checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_ends_the_script_with_a_message(sft_words, tmp_path, caplog, words, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("Some text.")
    other = GPT2ScratchForCausalLM(GPT2ScratchConfig(vocab_size=100, n_positions=64, n_embd=8, n_layer=1, n_head=1))
    other.save_pretrained(tmp_path / "other")
    places = {"empty": tmp_path / "empty", "other": tmp_path / "other", "text": tmp_path / "a.txt"}
    words = [word.format(**places) for word in words]
    assert main([*sft_words, "--output_dir", str(tmp_path / "run"), *words]) == 2
    assert message in caplog.records[-1].getMessage()
    assert "\n" not in caplog.records[-1].getMessage()
    assert not (tmp_path / "run").exists()


def test_what_a_run_goes_on_from_is_checked(finished, sft_words, caplog):
    folder = finished(*PACKED)
    words = [*sft_words, *PACKED, "--output_dir", str(folder)]
    assert main(words) == 2
    assert "already holds a run" in caplog.text
    assert main([*words, "--resume_from_checkpoint", "true", "--lora_r", "4", "--use_peft", "true"]) == 2
    assert "use_peft: False in checkpoint-12, True now" in caplog.text
    dpo = [*sft_words, "--method", "dpo", "--pair_tokens", "16", "--output_dir", str(folder)]
    assert main([*dpo, "--resume_from_checkpoint", "true"]) == 2
    assert "was made by sft, and cannot go on with dpo" in caplog.text
    assert pretrain(["--output_dir", str(folder), "--resume_from_checkpoint", "true"]) == 2
    assert "was made by sft, and cannot go on with pre-training" in caplog.text
    assert main([*words, "--resume_from_checkpoint", "true", "--max_samples", "100"]) == 2
    results = (folder / "results.json").read_bytes()
    assert main([*words, "--resume_from_checkpoint", "true"]) == 0
    assert "finished run of 12 steps: nothing to do" in caplog.text
    assert (folder / "results.json").read_bytes() == results
