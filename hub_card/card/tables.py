"""Parts of the card as Markdown: figures, tables of them, and texts that a model wrote."""

import re
from collections.abc import Iterable

from hub_card.card.run_record import RunRecord
from train.evaluation.result_rows import NOT_RECORDED, Table, exam_table


def show(value: object, form: str = "") -> str:
    """A figure in the given format, or that it is missing."""
    return NOT_RECORDED if value is None or value == "" else escape(format(value, form))


def escape(text: str) -> str:
    """Text for a table's cell or a line: data may hold what Markdown or HTML would take for its own."""
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def show_seconds(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    if seconds is None:
        return NOT_RECORDED
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; all columns but the first are aligned right."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fence(text: str) -> str:
    """Text as a block that shows every character of it, whatever marks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{text}\n{marks}"


def statistics_table(data: dict) -> str:
    """What became of the rows that were read, and how many tokens they are."""
    kept, tokens = data.get("kept_rows"), data.get("tokens", {})
    if kept is None:
        return f"Rows and tokens: {NOT_RECORDED}."
    rows = [("read", show(data.get("rows_read"), ","), "")]
    dropped = data.get("dropped_rows", {})
    rows += [
        (f"dropped: {escape(reason)}", f"{count:,}", "")
        for reason, count in sorted(dropped.items(), key=lambda item: -item[1])
    ]
    rows += [(f"kept: {split}", f"{kept[split]:,}", show(tokens.get(split), ",")) for split in kept]
    for kind in ("exercise", "language"):
        by_kind = data.get(f"rows_by_{kind}", {})
        kind_tokens = data.get(f"tokens_by_{kind}", {})
        rows += [
            (f"{kind}: {escape(name)}", f"{count:,}", show(kind_tokens.get(name), ","))
            for name, count in sorted(by_kind.items(), key=lambda item: -item[1])
        ]
    return table(("", "rows", "tokens"), rows)


def exam_text(record: RunRecord) -> str:
    """Marks by exercise, after the training and before it."""
    marks = exam_table(record.results.get("exam") or [], record.results.get("exam_before") or [])
    return f"Exam: {NOT_RECORDED}." if marks is None else results_text(marks)


def results_text(results: Table) -> str:
    """A table of results, and its sentences as a list."""
    rows = [[escape(cell) for cell in row] for row in results.rows]
    notes = "\n".join(f"- {escape(note)}" for note in results.notes)
    return table([escape(title) for title in results.header], rows) + (f"\n\n{notes}" if notes else "")


def hardware_text(results: dict) -> str:
    """What the run was trained on, as its results say it: a text, or names with values."""
    hardware = results.get("hardware")
    if isinstance(hardware, dict):
        known = {name.replace("_", " "): value for name, value in hardware.items() if value is not None}
        hardware = ", ".join(f"{name}: {value}" for name, value in known.items())
    return show(hardware)


def samples_text(samples: list[dict]) -> str:
    """Questions and what the model wrote, as it wrote it."""
    if not samples:
        return f"Samples: {NOT_RECORDED}."
    return "\n\n".join(fence(f"Q: {sample['question']}\n\n{sample['text']}") for sample in samples)
