"""An evaluation as tables in text, for the console."""

from collections.abc import Iterable, Sequence


def render_evaluation(evaluation: dict) -> str:
    """All that evaluation.json holds of the model, and of its comparisons what they say in words."""
    model = evaluation["model"]
    parts = [f"{model['name']}: {model['parameters']:,} parameters, evaluated on {evaluation['date'][:10]}"]
    if "validation" in evaluation:
        parts.append(_loss_table(evaluation["validation"]))
    if "exam" in evaluation:
        parts += [_exam_table(evaluation["exam"]), *_citations(evaluation["exam"]["citations"])]
    if "tasks" in evaluation:
        parts.append(_tasks_table(evaluation["tasks"]))
    parts += [_comparison(model["name"], comparison) for comparison in evaluation.get("comparisons", [])]
    kept = [f"{part.replace('_', '-')} of {date[:10]}" for part, date in evaluation.get("kept_from", {}).items()]
    if kept:
        parts.append(f"Kept from an earlier evaluation of the same weights: {', '.join(kept)}")
    return "\n\n".join(parts)


def _loss_table(validation: dict) -> str:
    most = "" if validation["all_read"] else "first "
    title = (
        f"Validation loss on {validation['rows_used']:,} of the {most}{validation['rows_found']:,} {validation['rows']}"
    )
    rows = [("all", validation["overall"])]
    for kind in ("exercise", "language"):
        groups = validation[f"by_{kind}"]
        rows += [(f"{kind}: {name}", figures) for name, figures in groups.items()] if len(groups) > 1 else []
    cells = [
        (
            name,
            f"{figures['rows']:,}",
            _with_half(figures["loss"], figures["loss_interval"], ".3f"),
            f"{figures['perplexity']:,.2f}",
            _with_half(figures["bits_per_byte"], figures["bits_per_byte_interval"], ".3f"),
            _with_half(figures["answer_loss"], figures["answer_loss_interval"], ".3f"),
        )
        for name, figures in rows
    ]
    return f"{title}\n" + _table(
        ("", "rows", "nats per token", "perplexity", "bits per byte", "answer: nats per token"), cells
    )


def _exam_table(exam: dict) -> str:
    title = f"Exam of {exam['asked']:,} questions: {exam['questions']}"
    if exam["too_long"]:
        title += f"; {exam['too_long']:,} leave no room in the context for an answer, and count as wrong"
    rows = exam["by_exercise"] if len(exam["by_exercise"]) > 1 else []
    cells = [
        (
            marks["exercise"],
            f"{marks['asked']:,}",
            f"{marks['chance']:.1%}",
            _with_range(marks["exact_match"], marks["exact_match_interval"]),
            f"{marks['well_formed_share']:.1%}",
            f"{marks['ended_share']:.1%}",
        )
        for marks in [exam["overall"], *rows]
    ]
    table = _table(("", "n", "chance", "exact match (95%)", "well formed", "ended by itself"), cells)
    return "\n".join([title, table, *exam["notes"]])


def _citations(citations: dict | None) -> Iterable[str]:
    if citations is None:
        return

    def share(name: str) -> str:
        value = citations[f"{name}_share"]
        return "-" if value is None else f"{value:.1%}"

    yield (
        f"Citations in {citations['answers']:,} answers to rag questions: the right sources and no others in "
        f"{share('exact')}; any in {share('citing')}. Of the sources cited, {share('precision')} were given; of those "
        f"expected, {share('recall')} were cited; of the quotations, {share('true_quotes')} stand in their source."
    )


def _tasks_table(tasks: list[dict]) -> str:
    cells, sources = [], []
    for figure in [figure for figure in tasks if not figure["part_of_group"]]:
        published = [
            f"{one['value']:.4g}"
            + ("" if one["shots"] == figure["shots"] else f" ({one['shots']}-shot)")
            + ("*" if one["note"] else "")
            for one in figure["gpt2_small"]
        ]
        sources += [one for one in figure["gpt2_small"] if one not in sources]
        cells.append(
            (
                f"{figure['task']} {figure['metric']}",
                "" if figure["samples"] is None else f"{figure['samples']:,}",
                "" if figure["shots"] is None else str(figure["shots"]),
                _with_half(figure["value"], figure["interval"], ".4f"),
                ", ".join(published) or "-",
            )
        )
    table = _table(("lm-eval task", "n", "shots", "value", "GPT-2 small, published"), cells)
    notes = [
        f"  {'* ' if one['note'] else ''}{one['source']}{': ' + one['note'] if one['note'] else ''}" for one in sources
    ]
    return "\n".join([table, *dict.fromkeys(notes)])


def _comparison(name: str, comparison: dict) -> str:
    other = comparison["model"]["name"]
    overall = [test["sentence"] for test in comparison["tests"] if test["group"] == "overall"]
    groups = [test for test in comparison["tests"] if test["group"] != "overall"]
    differing = [test["sentence"] for test in groups if test["better"]]
    lines = [f"{name} beside {other}", *overall]
    if groups:
        lines.append(
            f"Of {len(groups)} groups {len(differing)} differ by more than chance:"
            if differing
            else f"Of {len(groups)} groups none differs by more than chance."
        )
    return "\n".join([*lines, *(f"  {sentence}" for sentence in differing), *comparison["notes"]])


def _with_half(value: float, interval: Sequence[float] | None, form: str) -> str:
    """A value and half of its interval."""
    return f"{value:{form}}" if interval is None else f"{value:{form}} ± {(interval[1] - interval[0]) / 2:{form}}"


def _with_range(share: float, interval: Sequence[float]) -> str:
    return f"{share:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; all but the first are aligned right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
