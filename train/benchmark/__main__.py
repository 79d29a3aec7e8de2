"""Measure this model beside transformers' GPT-2 on this machine, turn by turn, both under the Trainer.

    python -m train.benchmark --quick           # under three minutes
    python -m train.benchmark                   # GPT-2 124M, too; on a GPU bf16, compiled, and how cost grows
    python -m train.benchmark --sweep           # how cost grows with batch and length, on CPUs, too
    python -m train.benchmark --num_processes 2
    python -m train.benchmark --only 124M       # the cases whose name has these words

Prints a table, and writes `benchmark.json` and `benchmark.png` into `--output_dir`.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch
import transformers
from tqdm.auto import tqdm

from train.benchmark.cases import Case, cases_for_cpu, cases_for_gpu, sweep
from train.benchmark.duel import ContenderFailedError, run_case
from train.benchmark.report import add_figures, draw, render_line, render_table
from train.callbacks.flops import data_sheet_peak_flops, measured_peak_flops
from train.provenance import describe_hardware
from train.run_files import command_parser, user_path


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = command_parser("train.benchmark", __doc__)
    parser.add_argument("--quick", action="store_true", help="few and small cases, under three minutes")
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


def choose_cases(arguments: argparse.Namespace, is_gpu: bool) -> tuple[list[Case], list[Case]]:
    """The cases of the table, and those of the sweep.

    Raises:
        ValueError: none is left.
    """
    cases = cases_for_gpu(arguments.quick) if is_gpu else cases_for_cpu(arguments.quick)
    swept = sweep(is_gpu) if arguments.sweep or (is_gpu and not arguments.quick) else []
    if arguments.num_processes > 1:
        cases = [case for case in cases if case.work != "generate"]  # which one process does alone
    chosen = [[case for case in some if arguments.only in case.name] for some in (cases, swept)]
    if not any(chosen):
        raise ValueError(f"--only {arguments.only!r}: there are {'; '.join(case.name for case in [*cases, *swept])}.")
    return chosen[0], chosen[1]


def main(argv: list[str]) -> int:
    """Run the benchmark that a command line asks for; returns the exit status."""
    arguments = parse_arguments(argv)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    is_gpu = device.type != "cpu"
    try:
        cases, swept = choose_cases(arguments, is_gpu)
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    peaks = {"float32": 0.0, "bfloat16": 0.0} if is_gpu else {"float32": 0.0}
    report: dict = {
        "device": describe_hardware()["device"],
        "instructions": torch.backends.cpu.get_cpu_capability(),  # of the processor
        "processes": arguments.num_processes,
        "measured_peak_flops": peaks,
        "data_sheet_peak_flops": data_sheet_peak_flops(device),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cases": [],
        "sweep": [],
    }
    kinds = [("cases", case) for case in cases] + [("sweep", case) for case in swept]
    update_peaks(peaks, device)
    with tqdm(kinds, desc="Benchmark", unit=" cases") as progress:
        for kind, case in progress:
            progress.set_postfix_str(case.name)
            report[kind].append(measure(case, processes=arguments.num_processes, device=device, report=report))
            progress.write(render_line(report[kind][-1]), file=sys.stdout)
            (arguments.output_dir / "benchmark.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    draw(arguments.output_dir / "benchmark.png", report)
    reached = ", ".join(f"{peak / 1e12:.2f} TFLOP/s in {name}" for name, peak in peaks.items())
    results = [*report["cases"], *report["sweep"]]
    print(f"\n{report['device']}: matrix products reach {reached}\n\n{render_table(results)}")
    print(f"\nRatios are ours to theirs. {arguments.output_dir / 'benchmark.json'} and benchmark.png have more.")
    return 1 if any("failed" in result for result in results) else 0


def measure(case: Case, processes: int, device: torch.device, report: dict) -> dict:
    """One case: its settings, and the figures of both sides or why there are none."""
    result = {"case": case.name, "settings": dataclasses.asdict(case)}
    try:
        result |= run_case(case, processes, on_gpu=device.type != "cpu")
    except ContenderFailedError as error:
        return {**result, "failed": str(error)}
    update_peaks(report["measured_peak_flops"], device)
    peaks = {"measured_peak": report["measured_peak_flops"], "sheet_peak": report["data_sheet_peak_flops"]}
    return add_figures(result, **peaks, processes=processes)


def update_peaks(peaks: dict[str, float], device: torch.device) -> None:
    """Measure the device's peaks in each number format again, as other programs may have disturbed it before."""
    for name in peaks:
        peaks[name] = max(peaks[name], measured_peak_flops(device, getattr(torch, name), seconds=0.5))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
