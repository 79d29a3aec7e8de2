"""The benchmark's figures, table and picture."""

from pathlib import Path

from train.evaluation.result_rows import Table


GB = 1e9
SIDES = ("ours", "transformers")
COLORS = ["tab:blue", "tab:gray"]


def add_figures(result: dict, measured_peak: dict[str, float], sheet_peak: float | None, processes: int) -> dict:
    """Add the ratios, ours to theirs, and each side's model FLOPs utilisation to a case's measurements."""
    is_bf16 = result["settings"]["bf16"]
    for side in SIDES:
        figures = result[side]
        flops = figures["flops_per_token"] * figures["tokens_per_second"] / processes
        figures["mfu"] = flops / measured_peak["bfloat16" if is_bf16 else "float32"]
        if sheet_peak is not None and is_bf16:
            figures["mfu_data_sheet"] = flops / sheet_peak
    result["time_ratio"] = result["ours"]["median_seconds"] / result["transformers"]["median_seconds"]
    result["memory_ratio"] = result["ours"]["peak_memory_bytes"] / result["transformers"]["peak_memory_bytes"]
    return result


def render_line(result: dict) -> str:
    """A case in a few words, for the time until the table is complete."""
    if "failed" in result:
        return f"{result['case']}: failed: {result['failed'].splitlines()[-1]}"
    return f"{result['case']}: time ratio {result['time_ratio']:.2f}, memory ratio {result['memory_ratio']:.2f}"


def render_table(results: list[dict]) -> str:
    """All cases but those that failed; ratios below 1 where ours is better."""
    rows = [
        [
            result["case"],
            *(f"{result[side]['median_seconds']:.3f}" for side in SIDES),
            f"{result['time_ratio']:.2f}",
            *(f"{result[side]['peak_memory_bytes'] / GB:.2f}" for side in SIDES),
            f"{result['memory_ratio']:.2f}",
            f"{result['ours']['tokens_per_second']:,.0f}",
            *(f"{result['ours'][name]:.1%}" if result["ours"].get(name) else "" for name in ("mfu", "mfu_data_sheet")),
        ]
        for result in results
        if "failed" not in result
    ]
    seconds, memory = ["ours s", "theirs s", "ratio"], ["ours GB", "theirs GB", "ratio"]
    return Table(["case", *seconds, *memory, "ours tokens/s", "MFU", "MFU by sheet"], rows).to_text()


def draw(path: Path, report: dict) -> None:
    """Bars of time and memory for the cases; lines of tokens per second for the sweeps, where there are any."""
    import pandas  # both are needed once, at the end
    from matplotlib.figure import Figure

    cases, swept = ([result for result in report[kind] if "failed" not in result] for kind in ("cases", "sweep"))
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
        {**result["settings"], **{side: result[side]["tokens_per_second"] for side in SIDES}} for result in swept
    )
    value = table[fixed].mode()[0]
    chosen = table[table[fixed] == value].sort_values(varied)
    chosen.plot(x=varied, y=[*SIDES], ax=axes, marker="o", color=COLORS, ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.set(xlabel=f"{varied} ({fixed} {value})", ylabel="tokens per second, training")
    axes.grid(alpha=0.3)
