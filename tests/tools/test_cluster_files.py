"""The files for clusters are what their tools read; SLURM's is run in tests/train/cluster."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml


FOLDER = Path("train/recipes/cluster")


@pytest.mark.parametrize("name", ["slurm.sbatch", "kubernetes.yaml", "skypilot.yaml"])
def test_a_person_edits_five_places(repository, name):
    text = (repository / FOLDER / name).read_text()
    assert [text.count(f"# EDIT {number}: ") for number in range(1, 7)] == [1, 1, 1, 1, 1, 0]


def test_kubernetes_takes_the_job(repository):
    import kubernetes_validate

    documents = list(yaml.safe_load_all((repository / FOLDER / "kubernetes.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["Service", "Job"]
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)
    documents[1]["spec"]["completionMod"] = "Indexed"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[1], "1.31", strict=True)


READ = """
import json, sys, sky
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
print(json.dumps({"spot": resources.use_spot, "gpus": resources.accelerators, "recovery": resources.job_recovery,
                  "envs": task.envs, "run": task.run}))
"""


def test_skypilot_takes_the_task(repository, tmp_path):
    python = repository / ".venv-skypilot" / "bin" / "python"
    if not python.exists():
        pytest.skip("SkyPilot is not installed: run `make tools`, which gives it an environment of its own.")
    file = str(repository / FOLDER / "skypilot.yaml")
    environment = {**os.environ, "HOME": str(tmp_path)}  # where it keeps its state
    environment.pop("PYTHONPATH", None)
    said = subprocess.run(
        [python, "-c", READ, file], env=environment, cwd=repository, capture_output=True, text=True, check=True
    )
    task = json.loads(said.stdout.splitlines()[-1])
    assert task["spot"] and task["gpus"] == {"H100": 8}
    assert task["recovery"]["max_restarts_on_errors"] == 0
    words = {**task["envs"], "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    command = task["run"].replace(".venv/bin/torchrun", "echo")
    said = subprocess.run(["bash", "-c", command], env={**os.environ, **words}, capture_output=True, text=True)
    assert "--config train/recipes/gpt2_124m_synth_10b_muon.yaml --global_batch_size 512" in said.stdout
    assert "--resume_from_checkpoint auto" in said.stdout
