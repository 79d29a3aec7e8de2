"""The benchmark's table, JSON and picture."""

import json
from pathlib import Path


GB = 1e9


def table_header() -> str:
    columns = f"{'':<48} {'ours':>9} {'stock':>9} {'time':>6}   {'ours':>8} {'stock':>8} {'memory':>6}   {'ours':>9}"
    return (
        f"{columns} {'MFU of':>8} {'of data':>8}\n{'case':<48} {'s':>9} {'s':>9} {'ratio':>6}   {'GB':>8} {'GB':>8} "
        f"{'ratio':>6}   {'tokens/s':>9} {'measured':>8} {'sheet':>8}"
    )


def table_row(result: dict) -> str:
    """One case as a line; the ratios are ours to stock's, below 1 where ours is better."""
    name = result["case"]
    if "failed" in result:
        return f"{name:<48} failed: {result['failed'].splitlines()[-1]}"
    ours, stock = result["ours"], result["stock"]
    utilisation = [f"{ours[name]:>8.1%}" if ours.get(name) else f"{'':>8}" for name in ("mfu", "mfu_data_sheet")]
    return (
        f"{name:<48} {ours['median_seconds']:>9.3f} {stock['median_seconds']:>9.3f} {result['time_ratio']:>6.2f}   "
        f"{ours['peak_memory_bytes'] / GB:>8.2f} {stock['peak_memory_bytes'] / GB:>8.2f} {result['memory_ratio']:>6.2f}"
        f"   {ours['tokens_per_second']:>9,.0f} {' '.join(utilisation)}"
    )


def add_figures(result: dict, measured_peak: dict[str, float], sheet_peak: float | None, processes: int) -> dict:
    """Add ratios, and each side's model FLOPs utilisation, to a case's measurements."""
    for side in ("ours", "stock"):
        figures = result[side]
        flops = figures["flops_per_token"] * figures["tokens_per_second"] / processes
        figures["mfu"] = flops / measured_peak["bfloat16" if result["settings"]["bf16"] else "float32"]
        if sheet_peak is not None and result["settings"]["bf16"]:
            figures["mfu_data_sheet"] = flops / sheet_peak
    result["time_ratio"] = result["ours"]["median_seconds"] / result["stock"]["median_seconds"]
    result["memory_ratio"] = result["ours"]["peak_memory_bytes"] / result["stock"]["peak_memory_bytes"]
    return result


def write_json(path: Path, report: dict) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def draw(path: Path, report: dict) -> None:
    """Bars of time and memory for the cases; lines of tokens per second for the sweeps, where there are any."""
    from matplotlib.figure import Figure  # needed once, at the end

    cases = [result for result in report["cases"] if "failed" not in result]
    swept = [result for result in report["sweep"] if "failed" not in result]
    rows = bool(cases) + bool(swept)
    figure = Figure(figsize=(12, 1 + 0.5 * len(cases) + 4 * bool(swept)), layout="constrained")
    grid = figure.subplots(rows, 2, squeeze=False)
    if cases:
        for axes, unit, label in (
            (grid[0][0], ("median_seconds", 1.0), "seconds a step"),
            (grid[0][1], ("peak_memory_bytes", GB), "peak memory (GB)"),
        ):
            _draw_bars(axes, cases, *unit)
            axes.set_xlabel(label)
        grid[0][1].set_yticklabels([])
        grid[0][0].legend()
    if swept:
        for axes, fixed, varied in ((grid[-1][0], "batch", "length"), (grid[-1][1], "length", "batch")):
            _draw_lines(axes, swept, fixed, varied)
    figure.suptitle(f"{report['device']}, {report['processes']} process(es), torch {report['versions']['torch']}")
    figure.savefig(path, dpi=120)


def _draw_bars(axes, cases: list[dict], figure: str, scale: float) -> None:
    for offset, (side, color) in enumerate((("ours", "tab:blue"), ("stock", "tab:gray"))):
        places = [number + 0.4 * offset for number in range(len(cases))]
        axes.barh(places, [case[side][figure] / scale for case in cases], height=0.4, color=color, label=side)
    axes.set_yticks([number + 0.2 for number in range(len(cases))], [case["case"] for case in cases])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.grid(axis="x", alpha=0.3)


def _draw_lines(axes, swept: list[dict], fixed: str, varied: str) -> None:
    """Tokens a second over the setting that varies, with the other at its most frequent value."""
    values = [result["settings"][fixed] for result in swept]
    most_frequent = max(values, key=values.count)
    chosen = [result for result in swept if result["settings"][fixed] == most_frequent]
    chosen.sort(key=lambda result: result["settings"][varied])
    for side, color in (("ours", "tab:blue"), ("stock", "tab:gray")):
        points = [(result["settings"][varied], result[side]["tokens_per_second"]) for result in chosen]
        axes.plot(*zip(*points, strict=True), marker="o", color=color, label=side)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{varied} ({fixed} {most_frequent})")
    axes.set_ylabel("tokens per second, training")
    axes.grid(alpha=0.3)
    axes.legend()
