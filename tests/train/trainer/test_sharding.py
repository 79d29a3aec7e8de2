"""A model in shards trains, is saved and goes on as a whole one."""

import json

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from train.finetune import main as finetune
from train.pretrain import main
from train.settings.recipe import parse_recipe


# Sizes that four do not divide, a vocabulary that is odd, clipping at each step, and evaluations and questions of which
# the processes have unequal shares.
SETTINGS = {
    "n_embd": 18,
    "n_inner": 70,
    "pad_vocab_to_multiple_of": 5,
    "embd_pdrop": 0,
    "attn_pdrop": 0,
    "resid_pdrop": 0,
    "per_device_train_batch_size": 2,
    "max_grad_norm": 0.5,
    "lr_scheduler_type": "constant",
    "save_steps": 2,
    "eval_steps": 2,
    "max_eval_sequences": 7,
    "per_device_eval_batch_size": 2,
    "sample_prompts": "What follows 3?",
    "sample_tokens": 3,
    "exam_tokens": 2,
    "html_report": False,
}
# Processes, fsdp_size, tp_size: shards, one process, unequal shards, replicas of shards, shards of parted matrices.
STAGES = [(2, 2, 1), (1, 1, 1), (4, 4, 1), (4, 2, 1), (4, 2, 2)]


@pytest.fixture
def words(tiny_recipe, tmp_path, row):
    exam, texts = tmp_path / "exam.jsonl", tmp_path / "texts.jsonl"
    exam.write_text("".join(json.dumps(row(number)) + "\n" for number in range(900, 903)))
    texts.write_text(
        "".join(json.dumps({"text": f"{number} comes before {number + 1}."}) + "\n" for number in range(99))
    )
    more = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    data = ["--dataset", str(tmp_path / "rows.jsonl"), str(texts), "--exam", str(exam)]
    return ["--config", str(tiny_recipe), *data, *more]


def evaluations(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: entry["eval_loss"] for entry in history if "eval_loss" in entry}


def assert_same(whole, sharded, log_by_step):
    expected, found = log_by_step(whole), log_by_step(sharded)
    assert expected.keys() == found.keys()
    for step in expected:
        assert found[step] == pytest.approx(expected[step], rel=2e-6), step
    assert evaluations(sharded) == pytest.approx(evaluations(whole), rel=2e-6)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_goes_on_with_any_number_of_processes_in_any_shards(words, fork, run_to_end, log_by_step, tmp_path):
    words += ["--optim_name", "muon"]
    whole, sharded, steps = tmp_path / "whole", tmp_path / "sharded", 2 * len(STAGES)
    batches = ["--gradient_accumulation_steps", "4"]
    assert main([*words, *batches, "--max_steps", str(steps), "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(sharded), "--resume_from_checkpoint", "auto", "--global_batch_size", "8"]
    words += ["--save_steps", "1", "--async_save", "true"]
    for number, (processes, fsdp_size, tp_size) in enumerate(STAGES, start=1):
        sizes = ["--fsdp_size", str(fsdp_size), "--tp_size", str(tp_size)]
        run_to_end(fork([*words, *sizes, "--max_steps", str(2 * number)], processes=processes))
        weights = load_file(sharded / f"checkpoint-{2 * number}" / "model.safetensors")
        assert len(weights["transformer.token_embedding.weight"]) == 295 and "lm_head.weight" not in weights
        AutoModelForCausalLM.from_pretrained(sharded / f"checkpoint-{2 * number}")
    assert_same(whole, sharded, log_by_step)
    samples = [(folder / "samples.jsonl").read_text() for folder in (whole, sharded)]
    assert samples[0] == samples[1]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_stock_optimizer_stops_and_goes_on_in_shards(words, fork, run_to_end, stop_gently, log_by_step, tmp_path):
    """Its groups of parameters are split where matrices are in parts, and one again afterwards."""
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    words += ["--global_batch_size", "4", "--max_steps", "40", "--eval_steps", "20", "--save_steps", "100"]
    assert main([*words, "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(sharded), "--resume_from_checkpoint", "auto"]
    assert 2 <= stop_gently(fork([*words, "--tp_size", "2"], processes=2), 2)[0] < 40
    run_to_end(fork([*words, "--fsdp_size", "2"], processes=2))
    assert_same(whole, sharded, log_by_step)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ("--fsdp_size 2", "--fsdp_size 2 --tp_size 1: 1 processes do not divide into groups of 2. Start 2 of them"),
        ("--fsdp_size 0", "--fsdp_size 0 must be at least 1"),
        ("--tp_size 3 --dry_run true", "--tp_size 3 must divide the heads, --n_head 2, and the inner width, 70"),
        ("--tp_size 2 --dry_run true --streaming true --max_steps 9", "--tp_size 2: each process reads a stream"),
        ("--tp_size 2 --dry_run true --optim adafactor", "--tp_size 2 with --optim adafactor: use AdamW or Muon"),
        ("--fsdp_size 2 --dry_run true --torch_compile true", "no run with --torch_compile true was seen to be right"),
        ("--fsdp full_shard", "--fsdp full_shard: its checkpoints open nowhere else. Leave it out: --fsdp_size"),
    ],
)
def test_what_cannot_be_sharded_is_refused(words, settings, line):
    with pytest.raises(ValueError, match=line):
        parse_recipe([*words, "--dataset_weights", "0.5", "0.5", *settings.split()])


def test_post_training_is_not_sharded(tmp_path, caplog):
    assert finetune(["--fsdp_size", "2", "--output_dir", str(tmp_path / "run")]) == 2
    assert "--fsdp_size 2: only pre-training parts a model among processes" in caplog.text
