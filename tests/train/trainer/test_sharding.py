"""A model in shards trains, is saved and goes on as a whole one."""

import pytest

from train.pretrain import main


NO_DROPOUT = ("--attn_pdrop", "0", "--resid_pdrop", "0", "--embd_pdrop", "0")
# Sizes that four do not divide, clipping at each step, and a vocabulary that is odd.
SETTINGS = {
    "n_embd": 18,
    "n_inner": 70,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "optim_name": "muon",
    "max_grad_norm": 0.5,
    "lr_scheduler_type": "constant",
    "save_steps": 2,
    "eval_steps": 2,
    "max_eval_sequences": 7,
    "sample_prompts": "What follows 3?",
    "sample_tokens": 3,
    "exam": "sample",
    "exam_tokens": 2,
}
STAGES = [(2, 2, 1), (1, 1, 1), (4, 4, 1), (4, 2, 1), (2, 1, 2), (4, 2, 2)]  # processes, fsdp_size, tp_size


@pytest.fixture
def words(tiny_recipe):
    more = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    return ["--config", str(tiny_recipe), *more]


@pytest.mark.parametrize("optim", ["muon", "adamw"])
def test_chain(words, fork, run_to_end, log_by_step, tmp_path, optim):
    words += [*NO_DROPOUT, "--optim_name", optim]
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    steps = 2 * len(STAGES)
    assert main([*words, "--max_steps", str(steps), "--output_dir", str(whole)]) == 0
    words += ["--output_dir", str(sharded), "--resume_from_checkpoint", "auto"]
    for number, (processes, fsdp, tp) in enumerate(STAGES):
        stage = ["--max_steps", str(2 * number + 2), "--fsdp_size", str(fsdp), "--tp_size", str(tp)]
        stage += ["--gradient_accumulation_steps", str(4 * tp // processes)]
        run_to_end(fork([*words, *stage], processes=processes))
        print(processes, fsdp, tp, flush=True)
    expected, found = log_by_step(whole), log_by_step(sharded)
    for step in expected:
        print(step, expected[step], found[step])
    assert expected.keys() == found.keys()
