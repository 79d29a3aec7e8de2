"""The launcher's promises are checked, and a process ends with its launcher."""

import os

import pytest

from train.errors import RunRefusedError
from train.launcher import check_elastic, follow_launcher
from train.pretrain import main


def test_a_process_that_accelerate_leaves_alone_is_refused(monkeypatch, caplog):
    """As `accelerate launch --num_machines 2` or `--cpu --num_processes 2` without `--multi_gpu` starts it."""
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    follow_launcher()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert main([]) == 2
    assert "starts one that trains alone, in the others' folder: add --multi_gpu" in caplog.text


@pytest.mark.parametrize(
    ("words", "shared", "message"),
    [
        ("torchrun --nnodes=1:2 train.py", "True", "torchrun --nnodes=1:2: an agent that joins later would end with"),
        ("torchrun --nnodes 1:4 train.py", "True", "torchrun --nnodes=1:4: "),
        ("torchrun --nnodes=1:2 train.py", "False", None),
        ("torchrun --nnodes=2:2 train.py", "True", None),
        ("torchrun --standalone train.py --nnodes=2", "True", None),
    ],
)
def test_an_elastic_launch_needs_a_store_of_its_own(monkeypatch, words, shared, message):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    cmdline = b"python\0" + words.replace(" ", "\0").encode() + b"\0"
    if message is None:
        check_elastic(cmdline)
        return
    with pytest.raises(RunRefusedError, match=message):
        check_elastic(cmdline)


def test_an_orphan_does_not_begin(monkeypatch, caplog):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    monkeypatch.setattr("train.launcher.os.getppid", lambda: 1)
    monkeypatch.setattr("train.launcher.ctypes.CDLL", lambda name: os)  # whose prctl is not called on the test
    monkeypatch.setattr("train.launcher.os.prctl", lambda *_: None, raising=False)
    monkeypatch.setattr("train.launcher.Path.read_bytes", lambda self: b"/sbin/init\0")
    assert main([]) == 2
    assert "The launcher of this process has ended" in caplog.text
