"""Parts of the card as Markdown: figures, tables of them, and texts that a model wrote."""

import re
from datetime import timedelta

from tabulate import tabulate

from train.evaluation.result_rows import NOT_RECORDED, Table


def show(value: object, form: str = "") -> str:
    """A figure in the given format, or that it is missing."""
    return NOT_RECORDED if value is None or value == "" else escape(format(value, form))


def show_seconds(seconds: float | None) -> str:
    """Hours, minutes and seconds."""
    return NOT_RECORDED if seconds is None else str(timedelta(seconds=round(seconds)))


def escape(text: str) -> str:
    """Text for a table's cell or a line: data may hold what Markdown or HTML would take for its own."""
    return re.sub(r"([\\|*_`\[\]])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def fence(text: str) -> str:
    """Text as a block that shows every character of it, whatever marks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{text}\n{marks}"


def to_markdown(table: Table | None) -> str:
    """A table, its columns after the first aligned right, and its notes as a list; or that it is missing."""
    if table is None:
        return f"{NOT_RECORDED.capitalize()}."
    rows = [[escape(cell) for cell in row] for row in table.rows]
    align = ("left", *["right"] * (len(table.header) - 1))
    header = [escape(title) for title in table.header]
    text = tabulate(rows, header, tablefmt="pipe", disable_numparse=True, colalign=align)
    return "\n".join([text, *([""] if table.notes else []), *(f"- {escape(note)}" for note in table.notes)])


def samples_text(samples: list[dict]) -> str:
    """Questions, and the texts that the model wrote, letter by letter."""
    blocks = [fence(f"Q: {sample['question']}\n\n{sample['text']}") for sample in samples]
    return "\n\n".join(blocks) or f"Samples: {NOT_RECORDED}."
