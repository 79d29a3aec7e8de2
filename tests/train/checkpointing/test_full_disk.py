"""A disk that is too small is refused before the first step; one that fills up meanwhile costs no checkpoint."""

import re
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
import logging, shutil, sys
from pathlib import Path
from train.checkpointing.checkpoints import checkpoints_in, verify
from train.callbacks.graceful_stop import GracefulStop
from train.pretrain import main

disk, *words = sys.argv[1:]
original = GracefulStop.on_step_end
filler = Path(disk) / "filler"

def fill_disk_at_step_8(self, args, state, control, **kwargs):
    if state.global_step == 8:
        try:
            with open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError as error:
            assert error.errno == 28, error
        with open(filler, "rb+") as file:
            file.truncate(file.seek(0, 2) - free)
    return original(self, args, state, control, **kwargs)

# Full while the tokenizer is written, and while the optimizer is, by a thread.
for free, async_save in ((10**6, "false"), (75 * 10**5, "true")):
    GracefulStop.on_step_end = fill_disk_at_step_8
    run = Path(disk) / "run"
    given = [*words, "--async_save", async_save, "--output_dir", str(run)]
    print("status", main(given), free)
    (checkpoint,) = checkpoints_in(run)
    print("kept", checkpoint.name, "verified at step", verify(checkpoint)["step"])
    print("left behind:", sorted(path.name for path in (run / "unfinished").glob("*")))
    filler.unlink()
    GracefulStop.on_step_end = original
    if async_save == "true":
        print("resumed:", main([*given, "--resume_from_checkpoint", "true"]))
    shutil.rmtree(run)
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_and_costs_no_checkpoint(tiny_recipe, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = ["bash", "-c", ON_SMALL_DISK, "bash", "80m", disk, sys.executable, textwrap.dedent(FILL_AND_TRAIN)]
    words = ["--config", tiny_recipe, "--tokenizer", TOKENIZER_FOLDER, "--report_to", "none", "--max_steps", "15"]
    words += ["--eval_strategy", "no", "--html_report", "false"]
    finished = subprocess.run(["unshare", "--map-root-user", "--mount", *shell, *words], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert re.findall(r"status (\d+) ", finished.stdout) == ["1"] * 2
    assert finished.stdout.count("kept checkpoint-6 verified at step 6") == 2
    assert finished.stdout.count("left behind: []") == 2
    assert "resumed: 0" in finished.stdout
    told = r"checkpoint-12 could not be written \(a checkpoint takes about 0.0\d\d GB, (\S+) GB are free on its disk\);"
    free = re.findall(f"{told} earlier checkpoints are untouched", finished.stderr)
    assert [float(one) for one in free] == pytest.approx([0.001, 0.007], abs=0.001)


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
