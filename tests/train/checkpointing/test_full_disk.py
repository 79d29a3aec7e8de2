"""A disk that is too small is refused before the first step; one that fills up meanwhile costs no checkpoint."""

import shutil
import subprocess
import sys
import textwrap

import pytest
from transformers import AutoModelForCausalLM

from modeling_gpt2scratch import TOKENIZER_FOLDER
from train.checkpointing import disk_space
from train.pretrain import main


# In a mount namespace of its own, so that the small file system is seen by this process only and goes with it.
ON_SMALL_DISK = 'mount -t tmpfs -o size="$1" tmpfs "$2" && exec "$3" -c "$4" "$2" "${@:5}"'
FILL_AND_TRAIN = """
import logging, sys
from pathlib import Path
from train.checkpointing.checkpoints import checkpoints_in, verify
from train.callbacks.graceful_stop import GracefulStop
from train.pretrain import main

disk, *words = sys.argv[1:]
original = GracefulStop.on_step_end

def fill_disk_at_step_8(self, args, state, control, **kwargs):
    if state.global_step == 8:
        try:
            with open(Path(disk) / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == 28, error
    return original(self, args, state, control, **kwargs)

GracefulStop.on_step_end = fill_disk_at_step_8
run = Path(disk) / "run"
status = main([*words, "--output_dir", str(run)])
(checkpoint,) = checkpoints_in(run)
print("status", status, "kept", checkpoint.name, "verified at step", verify(checkpoint)["step"])
print("left behind:", sorted(path.name for path in (run / "unfinished").glob("*")))
(Path(disk) / "filler").unlink()
GracefulStop.on_step_end = original
print("resumed:", main([*words, "--output_dir", str(run), "--resume_from_checkpoint", "true"]))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_costs_no_checkpoint(tiny_recipe, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = ["bash", "-c", ON_SMALL_DISK, "bash", "80m", disk, sys.executable, textwrap.dedent(FILL_AND_TRAIN)]
    words = ["--config", tiny_recipe, "--tokenizer", TOKENIZER_FOLDER, "--report_to", "none"]
    finished = subprocess.run(["unshare", "--map-root-user", "--mount", *shell, *words], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "status 1 kept checkpoint-6 verified at step 6" in finished.stdout
    assert "left behind: []" in finished.stdout
    assert "resumed: 0" in finished.stdout
    assert "checkpoint-12 could not be written (a checkpoint takes about 0.0" in finished.stderr
    assert "0.000 GB are free on its disk); earlier checkpoints are untouched" in finished.stderr


def test_too_small_a_disk_is_refused_before_the_first_step(tiny_recipe, tmp_path, monkeypatch, caplog):
    nearly_full = shutil.disk_usage(tmp_path)._replace(free=10**7)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: nearly_full)
    words = ["--config", str(tiny_recipe), "--report_to", "none", "--save_steps", "2", "--save_total_limit", "3"]
    assert main(words) == 2
    assert "has 0.010 GB free, and 4 checkpoints and the model need 0.0" in caplog.text
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_the_estimate_is_near_what_a_checkpoint_takes(tiny_recipe, tmp_path):
    assert main(["--config", str(tiny_recipe), "--report_to", "none"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    taken = disk_space.folder_bytes(tmp_path / "run" / "checkpoint-12")
    assert taken <= disk_space.checkpoint_bytes(model) <= taken + disk_space.OTHER_BYTES
