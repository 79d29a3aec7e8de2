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
import platform
import sys
from pathlib import Path

import torch
import transformers
from tqdm.auto import tqdm

from train.benchmark.cases import Case, cases_for_cpu, cases_for_gpu, sweep
from train.benchmark.duel import ContenderFailedError, run_case
from train.benchmark.report import add_figures, draw, table_header, table_row, write_json
from train.callbacks.flops import data_sheet_peak_flops, measured_peak_flops


def parse_arguments(words: list[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m train.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few and small cases, under three minutes")
    parser.add_argument("--sweep", action="store_true", help="batches and lengths, too (on a GPU: unless --quick)")
    parser.add_argument("--num_processes", type=int, default=1, help="processes that train together, each on a device")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/benchmark"), help="where JSON and picture go")
    arguments = parser.parse_args(words)
    if arguments.num_processes < 1:
        parser.error(f"--num_processes {arguments.num_processes} must be at least 1")
    if arguments.num_processes > torch.accelerator.device_count() > 0:
        parser.error(
            f"--num_processes {arguments.num_processes}: this machine has {torch.accelerator.device_count()} device(s)"
        )
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
    chosen = [case for case in cases if arguments.only in case.name]
    if not chosen and not swept:
        raise ValueError(f"--only {arguments.only!r}: there are {'; '.join(case.name for case in cases)}.")
    return chosen, swept


def main(words: list[str]) -> int:
    arguments = parse_arguments(words)
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    is_gpu = device.type != "cpu"
    try:
        cases, swept = choose_cases(arguments, is_gpu)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    dtypes = (torch.float32, torch.bfloat16) if is_gpu else (torch.float32,)
    measured_peak = {_short_name(dtype): measured_peak_flops(device, dtype) for dtype in dtypes}
    sheet_peak = data_sheet_peak_flops(device)
    report: dict = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name(),
        "processes": arguments.num_processes,
        "measured_peak_flops": measured_peak,
        "data_sheet_peak_flops": sheet_peak,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cases": [],
        "sweep": [],
    }
    peaks = ", ".join(f"{peak / 1e12:.2f} TFLOP/s in {name}" for name, peak in measured_peak.items())
    print(f"{report['device']}: matrix products reach {peaks}\n\n{table_header()}")
    with tqdm(total=len(cases) + len(swept), desc="Benchmark", unit=" cases") as progress:
        for kind, chosen in (("cases", cases), ("sweep", swept)):
            for case in chosen:
                progress.set_postfix_str(case.name)
                result: dict = {"case": case.name, "settings": dataclasses.asdict(case)}
                for dtype in dtypes:  # again, since something else may have disturbed the first measurement
                    name = _short_name(dtype)
                    measured_peak[name] = max(measured_peak[name], measured_peak_flops(device, dtype, seconds=0.3))
                try:
                    result |= run_case(case, arguments.num_processes, is_gpu)
                    add_figures(result, measured_peak, sheet_peak, arguments.num_processes)
                except ContenderFailedError as error:
                    result["failed"] = str(error)
                report[kind].append(result)
                progress.write(table_row(result), file=sys.stdout)
                progress.update()
                write_json(arguments.output_dir / "benchmark.json", report)
    draw(arguments.output_dir / "benchmark.png", report)
    print(f"\nRatios are ours to stock's. {arguments.output_dir / 'benchmark.json'} and benchmark.png have more.")
    return 1 if any("failed" in result for result in [*report["cases"], *report["sweep"]]) else 0


def _short_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _processor_name() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def _cpu_info() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
