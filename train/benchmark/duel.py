"""Two processes that work in turns on the same case, so that other programs disturb both alike."""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from train.benchmark.cases import WARM_UP_TURNS, Case
from train.benchmark.contender import ANSWER
from train.benchmark.report import SIDES
from train.settings.arguments import RECIPES_FOLDER


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
        self.process.kill()
        self.process.communicate()


def run_case(case: Case, processes: int = 1, on_gpu: bool = False) -> dict[str, dict]:
    """Measure both sides, turn by turn; each begins every second round.

    Returns:
        For each side `seconds` (of a step, for each turn that counts), their median, `tokens` (of a step, over all
        processes), `tokens_per_second`, `peak_memory_bytes` (of the main process), `flops_per_token`, `parameters`.
    """
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            side: Contender(side, case, processes=processes, on_gpu=on_gpu, log=Path(folder, f"{side}.log"))
            for side in SIDES
        }
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        try:
            for turn in range(case.turns):
                for side in SIDES if turn % 2 else reversed(SIDES):
                    seconds[side].append(contenders[side].take_turn() / case.steps_per_turn)
            return {side: _summarise(seconds[side][WARM_UP_TURNS:], contenders[side].answer()) for side in SIDES}
        finally:
            for contender in contenders.values():
                contender.stop()


def _summarise(seconds: list[float], facts: dict) -> dict:
    median = statistics.median(seconds)
    return {"seconds": seconds, "median_seconds": median, "tokens_per_second": facts["tokens"] / median, **facts}
