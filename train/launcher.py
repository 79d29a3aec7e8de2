"""What a process must know of the launcher that started it: `accelerate launch`, or an agent of torchrun."""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

from train.errors import RunRefusedError


# Where launchers say how many processes there are: torchrun and accelerate, or MPI.
SIZES_OF_WORLD = {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}
_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def follow_launcher() -> None:
    """End when the launcher does, and refuse launches that would train wrongly, by a `RunRefusedError`."""
    is_accelerate, is_torchrun = "ACCELERATE_MIXED_PRECISION" in os.environ, "TORCHELASTIC_RUN_ID" in os.environ
    if is_accelerate and "MASTER_ADDR" in os.environ and SIZES_OF_WORLD.isdisjoint(os.environ):
        raise RunRefusedError(
            "accelerate launch was asked for several machines or processes and starts one that trains alone, in the "
            "others' folder: add --multi_gpu, also on CPUs, or leave out --num_machines and --num_processes."
        )
    if sys.platform == "linux" and (is_accelerate or is_torchrun):
        end_with_launcher()
        check_elastic(Path(f"/proc/{os.getppid()}/cmdline").read_bytes())


def end_with_launcher() -> None:
    """Have the kernel send SIGTERM when the launcher, this process's parent, ends (Linux only). `accelerate launch`
    passes no signals on to a single process, and an agent of torchrun that is killed none at all: the process would
    work on, unseen, beside those that take its place."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Orphans go to the first process, which in a container may be the launcher itself, a program of Python.
    if os.getppid() == 1 and b"python" not in Path("/proc/1/cmdline").read_bytes():
        raise RunRefusedError("The launcher of this process has ended, so it does not begin.")


def check_elastic(launcher_words: bytes) -> None:
    """Refuse an elastic launch, `torchrun --nnodes=1:2`, that would not survive the return of a machine."""
    numbers = re.search(rb"--nnodes[=\0](\d+):(\d+)\0", launcher_words)
    if numbers and numbers[1] != numbers[2] and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise RunRefusedError(
            f"torchrun --nnodes={numbers[1].decode()}:{numbers[2].decode()}: an agent that joins later would end with "
            "the others. Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 where torchrun starts, on every machine."
        )
