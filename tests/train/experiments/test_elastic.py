"""Two agents of torchrun, one of which is killed alone and comes back."""

import re

import pytest

from tests.train.experiments.test_fault_injection import start_forked
from train.experiments import elastic
from train.experiments.fault_injection import main


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_run_goes_on_with_one_process_and_with_two_when_the_other_is_back(
    tiny_recipe, tmp_path, monkeypatch, capsys, repository
):
    monkeypatch.setattr(elastic, "start_run", start_forked)
    monkeypatch.setattr(elastic, "SCRIPT", ("-m", "tests.train.experiments.paced_run"))
    monkeypatch.setattr(elastic, "WAYS", ("the agent",))  # its process must not train on beside the others
    monkeypatch.setattr(elastic, "LONGEST_TRAINING_SECONDS", 0.5)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    words = ["--config", str(tiny_recipe), "--max_steps", "150", "--save_steps", "25", "--report_to", "none"]
    words += ["--per_device_train_batch_size", "2", "--global_batch_size", "4", "--warmup_steps", "0"]
    (tmp_path / "work").mkdir()
    status = main(["--elastic", "--kills", "1", "--folder", str(tmp_path / "work"), *words])
    output = capsys.readouterr()
    assert status == 0, output
    killed_at, one_from, _, two_from, _ = map(int, re.search(r"^the agent +(.*)$", output.out, re.MULTILINE)[1].split())
    assert killed_at <= one_from < two_from  # an orphan saves a checkpoint and stops: no step is lost
    assert "150 steps, each taken once; torn checkpoints: 0" in output.out
