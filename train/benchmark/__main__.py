"""Measure this model beside transformers' GPT-2 on this machine, both under the Trainer.

    python -m train.benchmark --quick           # under three minutes
    python -m train.benchmark                   # GPT-2 124M, too; on a GPU, kernels, precisions, sweeps and whole runs
    python -m train.benchmark --rehearsal       # the cases of a GPU with a tiny model, on any machine
    python -m train.benchmark --sweep           # how cost grows with batch and length, on CPUs, too
    python -m train.benchmark --num_processes 2
    python -m train.benchmark --only 124M       # the cases whose name has these words

Prints a table, and writes `benchmark.json`, `benchmark.md` and `benchmark.png` into `--output_dir`. A case that fails,
or has not enough memory, does not end the others. The same command again goes on where it was stopped, and tries anew
what failed.
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from tqdm.auto import tqdm

from train.benchmark.cases import Case, choose_cases
from train.benchmark.duel import run_case
from train.benchmark.report import add_figures, draw, has_failed, is_out_of_memory, render, render_line
from train.benchmark.whole_runs import run_whole
from train.callbacks.flops import data_sheet_peak_flops, measured_peak_flops
from train.provenance import describe_hardware, git_commit
from train.run_files import command_parser, user_path, write_whole


# What must be the same for a start to go on with an earlier one's results.
SAME = ("device", "instructions", "processes", "versions", "commit")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = command_parser("train.benchmark", __doc__)
    parser.add_argument("--quick", action="store_true", help="few and small cases, under three minutes")
    parser.add_argument("--rehearsal", action="store_true", help="what a GPU would be asked, with a tiny model")
    parser.add_argument("--sweep", action="store_true", help="batches and lengths, too (on a GPU: unless --quick)")
    parser.add_argument("--num_processes", type=int, default=1, help="processes that train together, each on a device")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument(
        "--output_dir", type=user_path, default=Path("runs/benchmark"), help="where JSON and picture go"
    )
    arguments = parser.parse_args(argv)
    devices = torch.accelerator.device_count()
    if arguments.num_processes < 1 or arguments.num_processes > devices > 0:
        parser.error(f"--num_processes {arguments.num_processes} must be at least 1 and at most one per device")
    return arguments


def choose(arguments: argparse.Namespace, device: torch.device) -> list[tuple[str, Case]]:
    """The cases of the table and of the sweep, with the name of either.

    Raises:
        ValueError: none is left.
    """
    cases, swept = choose_cases(device, arguments.quick, arguments.sweep, arguments.rehearsal)
    if arguments.num_processes > 1:
        cases = [case for case in cases if case.work not in ("generate", "recipe", "resume")]  # which one does alone
    kinds = [("cases", case) for case in cases] + [("sweep", case) for case in swept]
    chosen = [(kind, case) for kind, case in kinds if arguments.only in case.name]
    if not chosen:
        names = dict.fromkeys(case.name for _, case in kinds)
        raise ValueError(f"--only {arguments.only!r}: there are {'; '.join(names)}.")
    return chosen


def main(argv: list[str]) -> int:
    """Run the benchmark that a command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    if arguments.num_processes == 1:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # a process with several would spread its batches over them
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    try:
        kinds = choose(arguments, device)
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    file = arguments.output_dir / "benchmark.json"
    report: dict = {
        "device": describe_hardware()["device"],
        "instructions": torch.backends.cpu.get_cpu_capability(),  # of the processor
        "processes": arguments.num_processes,
        "measured_peak_flops": {case.precision: 0.0 for _, case in kinds if case.unsuited_to(device) is None},
        "data_sheet_peak_flops": data_sheet_peak_flops(device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "commit": git_commit(),
    }
    # With a place for each case, in this order.
    results = dict.fromkeys((kind, case.name) for kind, case in kinds) | earlier_results(file, report)
    update_peaks(report["measured_peak_flops"], device)
    with tqdm(kinds, desc="Benchmark", unit=" cases") as progress:
        for kind, case in progress:
            progress.set_postfix_str(case.name)
            swept = [result for (other, _), result in results.items() if result and other == "sweep"]
            result = results[kind, case.name] or measure(case, device=device, report=report, swept=swept)
            results[kind, case.name] = result
            progress.write(render_line(result), file=sys.stdout)
            for part in ("cases", "sweep"):
                report[part] = [result for (other, _), result in results.items() if result and other == part]
            report["is_finished"] = not any(result is None or has_failed(result) for result in results.values())
            write_whole(file, json.dumps(report, indent=2) + "\n")
    draw(file.with_suffix(".png"), report)
    text, markdown = render(report)
    write_whole(file.with_suffix(".md"), markdown)
    print(f"\n{text}\n{arguments.output_dir} has benchmark.json, benchmark.md and benchmark.png.")
    return 0 if report["is_finished"] else 1


def earlier_results(file: Path, report: dict) -> dict[tuple[str, str], dict]:
    """The results of a start that was stopped on the same machine and code, but those that failed."""
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if before.get("is_finished", True) or any(before.get(name) != report[name] for name in SAME):
        return {}
    kinds = [(kind, result) for kind in ("cases", "sweep") for result in before[kind]]
    return {(kind, result["case"]): result for kind, result in kinds if not has_failed(result)}


def measure(case: Case, device: torch.device, report: dict, swept: list[dict]) -> dict:
    """One case: its settings, and the figures of its sides or why there are none."""
    result = {"case": case.name, "settings": dataclasses.asdict(case)}
    if (reason := case.unsuited_to(device)) is not None:
        return {**result, "skipped": reason}
    sides = [side for side in case.sides if not is_too_large(case, side, swept)]
    result |= {side: {"failed": "out of memory, as a smaller one was"} for side in case.sides if side not in sides}
    try:
        if case.work in ("recipe", "resume"):
            with tempfile.TemporaryDirectory() as folder:
                result |= run_whole(case, Path(folder))
        else:
            result |= run_case(case, sides, processes=report["processes"], on_gpu=device.type != "cpu")
    except Exception as error:  # it ends this case alone
        result["ours"] = {"failed": f"{type(error).__name__}: {error}"}
    peaks = report["measured_peak_flops"]
    update_peaks(peaks, device)
    return add_figures(result, peaks, report["data_sheet_peak_flops"], processes=report["processes"])


def is_too_large(case: Case, side: str, swept: list[dict]) -> bool:
    """Whether fewer sequences of this length have been too many already."""
    return any(
        is_out_of_memory(result.get(side, {}))
        for result in swept
        if result["settings"]["length"] == case.length and result["settings"]["batch"] < case.batch
    )


def update_peaks(peaks: dict[str, float], device: torch.device) -> None:
    """Measure the device's peaks in each number format again, as other programs may have disturbed it before."""
    for name in peaks:
        peaks[name] = max(peaks[name], measured_peak_flops(device, getattr(torch, name), seconds=0.5))
    if device.type != "cpu":
        torch.accelerator.empty_cache()  # which the sides could use


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
