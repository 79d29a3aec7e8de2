"""SLURM itself, two nodes of it on this machine, runs the shipped job: prepared by an array, stopped at its time limit,
queued again, and gone on with to the same weights; and a refused recipe is not queued again."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.train.forked_run import ForkedRun
from train.pretrain import main


pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.multiprocess]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
OverTimeLimit=3
SlurmdParameters=config_overrides
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
LONGEST_SECONDS = 150
# What a person edits, by the number of the place.
EDITS = {
    1: "#SBATCH --nodes=2\n#SBATCH --cpus-per-task=1\n#SBATCH --time=5\n",
    2: "#SBATCH --output={log}\n",
    3: "cd {repository}\nPATH={bin}:$PATH\nprocesses_per_node=1\n",
    4: "recipe={recipe}\nsettings=({settings})\n",
    5: "export NCCL_SOCKET_IFNAME=lo GLOO_SOCKET_IFNAME=lo\nport={port}\n",
}


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def install_slurm() -> None:
    """With apt-get, where there is one; else the test is skipped."""
    if shutil.which("slurmctld") and shutil.which("slurmd"):
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        pytest.skip("SLURM is not there, and cannot be installed: that takes apt-get, and root.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"]):
        subprocess.run(["apt-get", "-q", *words], env=environment, check=True, timeout=300)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A controller and two nodes; `slurm(command, *words)` runs a command of theirs and returns what it says."""
    install_slurm()
    folder = tmp_path / "slurm"
    for name in ("state", "n1", "n2"):
        (folder / name).mkdir(parents=True)
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(host=socket.gethostname(), folder=folder, ports=free_ports(3)))
    environment = {**os.environ, "SLURM_CONF": str(file)}

    def run(*words: str) -> str:
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True, timeout=30).stdout

    commands = (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"])
    daemons = []
    try:
        for command in commands:
            with open(folder / f"{command[-1]}.log", "w") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        wait_for(lambda: run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], "two idle nodes")
        yield run
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def wait_for(happened: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LONGEST_SECONDS
    while True:
        try:
            if happened():
                return
        except (subprocess.CalledProcessError, FileNotFoundError):
            pass
        assert time.monotonic() < end, f"waited for {what} in vain"
        time.sleep(0.3)


def edit(job: str, **values: object) -> str:
    """The shipped file with its five places edited: from a mark to the next empty line."""
    blocks = job.split("\n\n")
    for number, text in EDITS.items():
        (place,) = [index for index, block in enumerate(blocks) if block.startswith(f"# EDIT {number}: ")]
        blocks[place] = text.format(**values).rstrip()
    return "\n\n".join(blocks)


def workers_of(run_folder: Path) -> list[int]:
    """The processes that train into a folder, without the agents of torchrun that started them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(run_folder).encode() in words and not any(b"torchrun" in word or b"srun" in word for word in words):
            found.append(int(file.parent.name))
    return found


def test_a_job_is_stopped_at_its_limit_and_goes_on_to_the_same_weights(
    slurm, tiny_recipe, tmp_path, repository, run_to_end, log_by_step
):
    log, folder, whole = tmp_path / "job.log", tmp_path / "run", tmp_path / "whole"
    steps = ["--disable_tqdm", "true", "--max_steps", "300", "--save_steps", "500", "--eval_steps", "500"]
    ports = free_ports(2)

    def submit(name: str, port: int, settings: list[str], *words: str) -> str:
        job = edit(
            (repository / "train/recipes/cluster/slurm.sbatch").read_text(),
            log=tmp_path / f"{name}.log",
            repository=repository,
            bin=repository / ".venv/bin",
            recipe=tiny_recipe,
            settings=" ".join(settings),
            port=port,
        )
        (tmp_path / f"{name}.sbatch").write_text(job)
        return slurm("sbatch", "--parsable", *words, str(tmp_path / f"{name}.sbatch")).strip()

    settings = [*steps, "--output_dir", str(folder)]
    array = submit("array", ports[0], settings, "--array=0-1", "--nodes=1")
    job = submit("job", ports[0], settings, f"--dependency=afterok:{array}")
    wait_for(lambda: "'tokens_seen'" in log.read_text(), "the first step")
    # Its processes stand still until the limit comes: a fast machine would have finished by then.
    workers = workers_of(folder)
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    run_to_end(ForkedRun(main, ["--config", str(tiny_recipe), *steps, "--output_dir", str(whole)], processes=2))
    slurm("scontrol", "update", f"jobid={job}", "TimeLimit=1")
    mistake = submit("mistake", ports[1], ["--output_dir", str(tmp_path / "other"), "--n_laier", "3"], "--nodes=1")
    wait_for(lambda: "death signal" in log.read_text(), "the signal before the limit")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    wait_for(lambda: " PENDING " in slurm("squeue", "-h", "-j", job, "-o", " %T "), "the job in the queue")
    # Else it waits for two minutes. In the second in which it was stopped, its nodes would refuse it.
    slurm("scontrol", "update", f"jobid={job}", "StartTime=now+5", "TimeLimit=5")
    wait_for(lambda: "Start 2 on n[1-2]" in log.read_text(), "the second start")  # a requeued job is not always listed
    wait_for(lambda: not slurm("squeue", "-h"), "the end of both jobs")
    said = log.read_text()
    assert "Stopped at step" in said and "Resuming from" in said, said
    assert list(log_by_step(folder)) == list(range(1, 301))
    hashes = [hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest() for run in (whole, folder)]
    assert hashes[0] == hashes[1]
    refused = (tmp_path / "mistake.log").read_text()
    assert "'n_laier'" in refused and "It failed, and is not queued again." in refused, refused
    state = slurm("scontrol", "show", "job", mistake)
    assert "JobState=FAILED" in state and "Restarts=0" in state, state
    assert "are prepared" in (tmp_path / "array.log").read_text()
