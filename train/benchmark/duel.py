"""The two sides of a case, each in a process of its own."""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from train.benchmark.cases import WARM_UP_TURNS, Case
from train.benchmark.contender import ANSWER
from train.settings.arguments import RECIPES_FOLDER


LONGEST_SECONDS = 1800  # of a side in a case, lest one that hangs end the others
LINES_TO_SHOW = 15  # of the output of a side that failed


class ContenderFailedError(RuntimeError):
    """A side of a case ended early; the message has the end of its output."""


class Contender:
    """A child process that works on one side of a case."""

    def __init__(self, side: str, case: Case, processes: int, on_gpu: bool, log: Path):
        self.side = side
        self.log = log
        launcher = []
        if processes > 1:
            config = RECIPES_FOLDER / "accelerate" / ("gpu_8.yaml" if on_gpu else "cpu_2_processes.yaml")
            launcher = ["accelerate.commands.launch", "--config_file", str(config)]
            # Port 0: each side finds a free one.
            launcher += ["--num_processes", str(processes), "--main_process_port", "0", "-m"]
        words = ["train.benchmark.contender", side, json.dumps(dataclasses.asdict(case))]
        with open(log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *launcher, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.limit = threading.Timer(LONGEST_SECONDS, self.process.kill)
        self.limit.start()

    def take_turn(self) -> float:
        """Let it work once; returns the seconds that it took."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, and gives no answer
        return self.answer()["seconds"]

    def answer(self) -> dict:
        """Its next answer; a `ContenderFailedError` if it has ended instead."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        last_lines = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-LINES_TO_SHOW:])
        raise ContenderFailedError(f"{self.side} ended with status {self.process.wait()}:\n{last_lines}")

    def stop(self) -> None:
        self.limit.cancel()
        self.process.kill()
        self.process.communicate()


def run_case(case: Case, sides: Sequence[str], processes: int = 1, on_gpu: bool = False) -> dict[str, dict]:
    """Measure the sides, on CPUs turn by turn, where each begins every second round; on GPUs, which no other program
    disturbs, one after the other, so that each has all memory.

    Returns:
        For each side `seconds` (of a step, for each turn that counts), their median, `tokens` (of a step, over all
        processes), `tokens_per_second`, `peak_memory_bytes` (of the main process), `flops_per_token`, `parameters`; or
        `failed`, the end of its output.
    """
    rounds = [sides[::-1] if turn % 2 else sides for turn in range(1, case.turns + 1)]
    order = [side for side in sides for _ in rounds] if on_gpu else [side for sides in rounds for side in sides]
    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            side: Contender(side, case, processes=processes, on_gpu=on_gpu, log=Path(folder, f"{side}.log"))
            for side in sides
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        try:
            for side in order:
                if side in figures:
                    continue
                try:
                    seconds[side].append(contenders[side].take_turn() / case.steps_per_turn)
                    if len(seconds[side]) == case.turns:
                        figures[side] = summarise(seconds[side][WARM_UP_TURNS:], contenders[side].answer())
                        contenders.pop(side).stop()  # its memory is the other's
                except ContenderFailedError as error:
                    figures[side] = {"failed": str(error)}
        finally:
            for contender in contenders.values():
                contender.stop()
    return figures


def summarise(seconds: list[float], facts: dict) -> dict:
    median = statistics.median(seconds)
    return {"seconds": seconds, "median_seconds": median, "tokens_per_second": facts["tokens"] / median, **facts}
