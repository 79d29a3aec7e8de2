"""The files for clusters are what their tools read; SLURM's is run in tests/train/cluster."""

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


def test_skypilot_takes_the_task(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps its state
    monkeypatch.chdir(repository)
    import sky

    task = sky.Task.from_yaml(str(FOLDER / "skypilot.yaml"))
    (resources,) = task.resources
    assert resources.use_spot and resources.accelerators == {"H100": 8}
    assert resources.job_recovery["max_restarts_on_errors"] == 0
    words = {**task.envs, "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    assert "--resume_from_checkpoint auto" in task.run
    said = subprocess.run(
        ["bash", "-c", task.run.replace(".venv/bin/torchrun", "echo")],
        *(), env={**os.environ, **words}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "--config train/recipes/gpt2_124m_synth_10b.yaml" in said
