"""A function in new processes, forked from one that has imported `train.pretrain` once for all tests."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO


def forkserver() -> ForkServerContext:
    """The server forks before it has any thread, as it only imports."""
    multiprocessing.set_forkserver_preload(["train.pretrain"])
    return multiprocessing.get_context("forkserver")


def _run(
    words: Connection, output: Connection, environment: dict[str, str], function: Callable[..., int], arguments: tuple
) -> None:
    multiprocessing.set_start_method("fork", force=True)  # for workers, as in a process that a user starts
    sys.modules["train.callbacks.throughput"].measured_peak_flops = lambda *_, **__: 1e11  # each would take a while
    os.environ.update(environment)
    os.dup2(words.fileno(), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    sys.exit(function(*arguments))


def _distributed(processes: int) -> list[dict[str, str]]:
    """The environment of each process, as torchrun makes it."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "ACCELERATE_MIXED_PRECISION": "no"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


class ForkedRun:
    """Has the methods of `subprocess.Popen` that the tests use; a signal goes to all processes, as a launcher does it.

    `function` returns the exit status. What all processes write goes to `stdout`, or into the file `console`; they read
    from `stdin`.
    """

    def __init__(self, function: Callable[..., int], *arguments, processes: int = 1, console: Path | None = None):
        self.stdout: IO[str]
        if console is None:
            reader, writer = os.pipe()
            self.stdout = os.fdopen(reader, encoding="utf-8")
        else:
            writer = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        words, stdin = os.pipe()
        self.stdin: IO[str] = os.fdopen(stdin, "w", encoding="utf-8")
        with Connection(writer, readable=False) as to_child, Connection(words, writable=False) as from_parent:
            self._processes = [
                forkserver().Process(target=_run, args=(from_parent, to_child, environment, function, arguments))
                for environment in _distributed(processes)
            ]
            for process in self._processes:
                process.start()

    @property
    def pid(self) -> int:
        return self._processes[0].pid

    @property
    def returncode(self) -> int | None:
        """The first status that is no success, once all have ended."""
        ended = [process.exitcode for process in self._processes]
        return None if None in ended else next((status for status in ended if status), 0)

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        for process in self._processes:
            process.join(None if end is None else max(0.0, end - time.monotonic()))
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked run", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """All output; what has not ended in time is killed, and has a status that is no success."""
        killer = threading.Timer(timeout, self.kill)
        killer.start()
        output = self.stdout.read()
        killer.cancel()
        self.wait(timeout)
        return output, None

    def send_signal(self, number: int) -> None:
        for process in self._processes:
            os.kill(process.pid, number)

    def kill(self) -> None:
        for process in self._processes:
            process.kill()
