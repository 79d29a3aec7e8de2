"""The script, run as a user runs it: `accelerate launch train/pretrain.py`."""

import json
import os
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.pretrain import main


pytestmark = pytest.mark.slow


def assert_same_weights(first, second) -> None:
    expected, found = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One finished run, looked at by several tests; 40 steps, so that it can be stopped in time when run again."""
    return tmp_path_factory.mktemp("pretrain")


@pytest.fixture
def words(tiny_recipe, shared, row):
    rows = shared / "rows.jsonl"
    if not rows.exists():
        rows.write_text("".join(json.dumps(row(number)) + "\n" for number in range(200)))
    return [
        *("--config", str(tiny_recipe), "--dataset", str(rows), "--data_cache_dir", str(shared / "cache")),
        *("--tokenizer", str(TOKENIZER_FOLDER)),  # GPT-2's, as a user's run has it
        *("--max_steps", "40", "--eval_steps", "10", "--save_steps", "10", "--save_total_limit", "2"),
        *("--gradient_accumulation_steps", "2", "--sample_prompts", "What follows 3?", "--sample_tokens", "8"),
        *("--attn_pdrop", "0.1", "--resid_pdrop", "0.1", "--embd_pdrop", "0.1"),
    ]


@pytest.fixture
def finished(shared, words, fork, run_to_end):
    """The run folder and the console output of a run that was left alone."""
    folder, console = shared / "finished", shared / "console.txt"
    if not console.exists():
        questions = shared / "questions.jsonl"
        questions.write_text("".join((shared / "rows.jsonl").read_text().splitlines(keepends=True)[:60]))
        exam = ("--exam", str(questions), "--exam_tokens", "8")
        console.write_text(run_to_end(fork([*words, *exam, "--output_dir", str(folder)])))
    return folder, console.read_text()


def test_the_run_folder_and_its_checkpoints_open_with_the_auto_classes(finished):
    folder, _ = finished
    for saved in (folder, folder / "checkpoint-40"):
        assert AutoConfig.from_pretrained(saved).model_type == "gpt2scratch"
        model = AutoModelForCausalLM.from_pretrained(saved)
        tokenizer = AutoTokenizer.from_pretrained(saved)
        assert model.lm_head.weight is model.transformer.token_embedding.weight
        assert AutoModel.from_pretrained(saved).num_parameters() == model.num_parameters()
        written = model.generate(**tokenizer("Q:", return_tensors="pt"), max_new_tokens=3, do_sample=False)
        assert written.shape[1] > 2
        assert (saved / "attention.py").exists()
        assert tokenizer.model_max_length == model.config.n_positions < 1024
        assert model.config.use_cache is True
    assert_same_weights(folder, folder / "checkpoint-40")


def test_whoever_gets_the_run_folder_can_read_it_and_runs_no_pickle(finished):
    folder, _ = finished
    files = [path for path in folder.iterdir() if path.is_file()]
    assert {"model.safetensors", "chat_template.jinja", "generation_config.json"} <= {path.name for path in files}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert not list(folder.rglob("training_args.bin"))
    umask = os.umask(0o022)
    os.umask(umask)
    for path in files + list(folder.glob("checkpoint-*/*.safetensors")):
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask, path


def test_old_checkpoints_go_and_the_last_stay(finished):
    folder, _ = finished
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-30", "checkpoint-40"]


def test_the_model_learns(finished, log_by_step):
    log = log_by_step(finished[0])
    assert list(log) == list(range(1, 41))
    assert abs(log[1]["loss"] - 10.82) < 0.1  # ln(50,257), as nothing is known yet
    assert log[40]["loss"] < log[1]["loss"] - 0.5
    assert log[40]["tokens_seen"] == 40 * 2 * 4 * 32


def test_results_recipe_samples_and_pictures_are_left_behind(finished):
    folder, _ = finished
    results = json.loads((folder / "results.json").read_text())
    assert results["tokens_seen"] == 40 * 2 * 4 * 32
    assert results["data"]["rows_read"] == 200
    assert results["evaluation"]["eval_loss"] > 0
    assert {mark["exercise"] for mark in results["exam"]} == {"memorization, known", "memorization, new"}
    assert sum(mark["asked"] for mark in results["exam_before"]) == 60
    assert "n_embd: 16" in (folder / "recipe.yaml").read_text()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [10, 20, 30, 40]
    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").glob("events.*"))


def test_the_console_shows_what_happens(finished):
    _, console = finished
    for expected in ("1 process(es) on cpu", "rows read", "Tokenising", "| perplexity ", "exact match", "40/40"):
        assert expected in console
    (line,) = re.findall(r"^step 20 \| loss .*$", console, re.MULTILINE)
    for figure in ("grad norm", "lr", "tokens", "tokens/s", "MFU", "data wait", "GiB", "ETA"):
        assert figure in line
    assert "--- step 10\nQ: What follows 3?" in console


def test_a_run_stopped_by_its_launcher_resumes_as_if_never_stopped(
    finished, shared, words, launch, stop_gently, log_by_step
):
    folder = shared / "stopped"
    words = [*words, "--output_dir", str(folder)]
    stopped_at, _ = stop_gently(launch(words), 3)
    assert 3 <= stopped_at < 40
    assert (folder / f"checkpoint-{stopped_at}").is_dir()
    assert not (folder / "model.safetensors").exists()

    assert main([*words, "--resume_from_checkpoint", "true"]) == 0
    assert log_by_step(folder) == log_by_step(finished[0])
    assert_same_weights(folder, finished[0])


@pytest.mark.multiprocess
def test_two_processes_train_the_model_that_one_trains(
    shared, words, launch, fork, run_to_end, stop_gently, repository, log_by_step
):
    words = [*words, "--attn_pdrop", "0", "--resid_pdrop", "0", "--embd_pdrop", "0", "--max_steps", "20"]
    one, two = shared / "one", shared / "two"
    assert main([*words, "--output_dir", str(one)]) == 0

    config = repository / "train" / "recipes" / "accelerate" / "cpu_2_processes.yaml"
    halved = [*words, "--per_device_train_batch_size", "2", "--output_dir", str(two)]
    launcher = ("--config_file", str(config), "--main_process_port", "0")
    _, console = stop_gently(launch(halved, launcher), 2)
    assert "2 process(es) on cpu" in console
    run_to_end(fork([*halved, "--resume_from_checkpoint", "true"], processes=2))

    expected, found = log_by_step(one), log_by_step(two)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=1e-4), step
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name in weights:
        torch.testing.assert_close(others[name], weights[name], rtol=0, atol=2e-5)


def test_the_best_model_is_what_stays(words, shared):
    """ "Best" is turned round here, so that it is not the last: the model that is kept has the highest loss."""
    folder = shared / "best"
    best = ("--load_best_model_at_end", "true", "--metric_for_best_model", "eval_loss", "--greater_is_better", "true")
    assert main([*words, *best, "--max_steps", "30", "--output_dir", str(folder)]) == 0
    state = json.loads((folder / "trainer_state.json").read_text())
    losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
    assert max(losses, key=losses.get) == 10
    assert_same_weights(folder, folder / "checkpoint-10")
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-30"]


def test_weight_decay_falls_on_matrices_only(words, shared, monkeypatch):
    from train.trainer.pretraining import PretrainingTrainer

    groups = []

    def look_and_stop(self, *args, **kwargs):
        self.create_optimizer()
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for group in self.optimizer.param_groups:
            groups.append((group["weight_decay"], {names[id(parameter)]: parameter for parameter in group["params"]}))
        raise KeyboardInterrupt

    monkeypatch.setattr(PretrainingTrainer, "train", look_and_stop)
    with pytest.raises(KeyboardInterrupt):
        main([*words, "--output_dir", str(shared / "decay")])
    (decay, matrices), (no_decay, others) = groups
    assert (decay, no_decay) == (0.1, 0.0)
    assert {parameter.ndim for parameter in matrices.values()} == {2}
    assert {parameter.ndim for parameter in others.values()} == {1}
    assert len(matrices) == 2 + 2 * 6


def test_a_mistake_ends_the_script_with_a_message_and_no_trace(words, capsys, caplog):
    assert main([*words, "--lerning_rate", "1"]) == 2
    assert "Did you mean 'learning_rate'?" in caplog.text


def test_a_dry_run_prints_the_plan_and_writes_nothing(words, shared, capsys):
    assert main([*words, "--dry_run", "--output_dir", str(shared / "dry")]) == 0
    plan = capsys.readouterr().out
    assert "n_embd: 16" in plan
    assert re.search(r"tokens per step +256 = ", plan)
    assert not (shared / "dry").exists()


def test_too_few_rows_for_a_batch_are_refused(words, shared, caplog):
    assert main([*words, "--gradient_accumulation_steps", "100", "--output_dir", str(shared / "few")]) == 2
    assert "do not fill one batch" in caplog.text
