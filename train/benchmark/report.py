"""The benchmark's figures, table and picture."""

import math
from pathlib import Path

from train.benchmark.cases import SIDES
from train.evaluation.result_rows import Table


GB = 1e9
COLORS = ["tab:blue", "tab:gray"]


def add_figures(result: dict, measured_peak: dict[str, float], sheet_peak: float | None, processes: int) -> dict:
    """Add the ratios, ours to theirs, and each side's model FLOPs utilisation to a case's measurements."""
    precision = result["settings"]["precision"]
    measured = [result[side] for side in SIDES if "median_seconds" in result.get(side, {})]
    for figures in measured:
        flops = figures.get("flops_per_token", 0) * figures["tokens_per_second"] / processes
        if flops:
            figures["mfu"] = flops / measured_peak[precision]
            if sheet_peak is not None and precision != "float32":
                figures["mfu_data_sheet"] = flops / sheet_peak
    if len(measured) == 2:
        ours, theirs = measured
        result["time_ratio"] = ours["median_seconds"] / theirs["median_seconds"]
        result["memory_ratio"] = ours["peak_memory_bytes"] / theirs["peak_memory_bytes"]
    return result


def is_measured(result: dict) -> bool:
    """Whether a side has figures for the table."""
    return any("median_seconds" in result.get(side, {}) for side in SIDES)


def is_out_of_memory(figures: dict) -> bool:
    return "out of memory" in figures.get("failed", "")


def has_failed(result: dict) -> bool:
    """Whether a side gave no figures, for another reason than its size."""
    return any("failed" in result.get(side, {}) and not is_out_of_memory(result[side]) for side in SIDES)


def render_line(result: dict) -> str:
    """A case in a few words, for the time until the table is complete."""
    words = [f"not measured: {result['skipped']}"] if "skipped" in result else []
    for side in SIDES:
        figures = result.get(side, {})
        if "failed" in figures:
            reason = "out of memory" if is_out_of_memory(figures) else f"failed: {figures['failed'].splitlines()[-1]}"
            words.append(f"{side} {reason}")
        elif "kills" in figures:
            different = f"{len(figures['differences'])} differ" if figures["differences"] else "the same, bit for bit"
            words.append(f"{figures['kills']} kills, {figures['compared']:,} values compared: {different}")
        elif figures and "time_ratio" not in result:
            words.append(f"{side} {figures['tokens_per_second']:,.0f} tokens/s")
    if "time_ratio" in result:
        words.append(f"time ratio {result['time_ratio']:.2f}, memory ratio {result['memory_ratio']:.2f}")
    return f"{result['case']}: {'; '.join(words)}"


def make_table(results: list[dict]) -> Table:
    """All cases that have figures; ratios below 1 where ours is better."""

    def cell(result: dict, side: str, name: str, form: str, scale: float = 1.0) -> str:
        figures = result.get(side, {})
        if name == "median_seconds" and is_out_of_memory(figures):
            return "out of memory"
        return format(figures[name] / scale, form) if figures.get(name) else ""

    rows = [
        [
            result["case"],
            *(cell(result, side, "median_seconds", ".3f") for side in SIDES),
            f"{result['time_ratio']:.2f}" if "time_ratio" in result else "",
            *(cell(result, side, "peak_memory_bytes", ".2f", GB) for side in SIDES),
            f"{result['memory_ratio']:.2f}" if "memory_ratio" in result else "",
            cell(result, "ours", "estimated_bytes", ".2f", GB),
            *(cell(result, side, "tokens_per_second", ",.0f") for side in SIDES),
            *(cell(result, "ours", name, ".1%") for name in ("mfu", "mfu_data_sheet")),
        ]
        for result in results
        if is_measured(result)
    ]
    seconds, memory = ["ours s", "theirs s", "ratio"], ["ours GB", "theirs GB", "ratio", "dry run GB"]
    return Table(["case", *seconds, *memory, "ours tokens/s", "theirs tokens/s", "MFU", "MFU by sheet"], rows)


def describe_micro_batches(swept: list[dict]) -> list[str]:
    """The fastest and the largest batch of each side, at the length that most of the sweep has."""
    lengths = [result["settings"]["length"] for result in swept]
    length = max(set(lengths), key=lengths.count, default=0)
    lines = []
    for side in SIDES:
        speeds = {
            result["settings"]["batch"]: result[side]["tokens_per_second"]
            for result in swept
            if result["settings"]["length"] == length and "median_seconds" in result.get(side, {})
        }
        if speeds:
            best = max(speeds, key=speeds.__getitem__)
            lines.append(
                f"Micro-batches of {length:,} tokens, {side}: {best} is the fastest ({speeds[best]:,.0f} tokens/s), "
                f"{max(speeds)} the largest that was measured."
            )
    return lines


def render(report: dict) -> tuple[str, str]:
    """The whole report as text, and as Markdown."""
    results = [*report["cases"], *report["sweep"]]
    reached = (f"{peak / 1e12:.2f} TFLOP/s in {name}" for name, peak in report["measured_peak_flops"].items())
    about = f"{report['device']}, torch {report['versions']['torch']}: matrix products reach {', '.join(reached)}"
    table, others = make_table(results), [render_line(result) for result in results if not is_measured(result)]
    notes = [*describe_micro_batches(report["sweep"]), "Ratios are ours to theirs.", *others]
    lines = "\n".join(f"- {note}" for note in notes)
    return "\n\n".join([about, table.to_text(), *notes]), f"{about}\n\n{table.to_text('pipe')}\n\n{lines}\n"


def draw(path: Path, report: dict) -> None:
    """Bars of time and memory for the cases; lines of tokens per second for the sweeps, where there are any."""
    import pandas  # both are needed once, at the end
    from matplotlib.figure import Figure

    cases = [result for result in report["cases"] if "time_ratio" in result]
    swept = list(filter(is_measured, report["sweep"]))
    figure = Figure(figsize=(12, 1 + 0.5 * len(cases) + 4 * bool(swept)), layout="constrained")
    grid = figure.subplots(max(1, bool(cases) + bool(swept)), 2, squeeze=False)
    if cases:
        names = [case["case"] for case in cases]
        for axes, key, scale, label in (
            (grid[0][0], "median_seconds", 1.0, "seconds per step"),
            (grid[0][1], "peak_memory_bytes", GB, "peak memory (GB)"),
        ):
            values = {side: [case[side][key] / scale for case in cases] for side in SIDES}
            pandas.DataFrame(values, names).plot.barh(ax=axes, logx=True, color=COLORS, xlabel=label)
            axes.invert_yaxis()
            axes.grid(axis="x", alpha=0.3)
        grid[0][1].set_yticklabels([])
    if swept:
        for axes, fixed, varied in ((grid[-1][0], "batch", "length"), (grid[-1][1], "length", "batch")):
            _draw_sweep(axes, swept, fixed=fixed, varied=varied)
    figure.suptitle(f"{report['device']}, {report['processes']} process(es), torch {report['versions']['torch']}")
    figure.savefig(path, dpi=120)


def _draw_sweep(axes, swept: list[dict], fixed: str, varied: str) -> None:
    """Tokens per second over the setting that varies, with the other at its most frequent value."""
    import pandas

    table = pandas.DataFrame(
        result["settings"] | {side: result.get(side, {}).get("tokens_per_second", math.nan) for side in SIDES}
        for result in swept
    )
    value = table[fixed].mode()[0]
    chosen = table[table[fixed] == value].sort_values(varied)
    chosen.plot(x=varied, y=[*SIDES], ax=axes, marker="o", color=COLORS, ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.set(xlabel=f"{varied} ({fixed} {value})", ylabel="tokens per second, training")
    axes.grid(alpha=0.3)
