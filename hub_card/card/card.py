"""The model card: a template, filled with what the run's files say; what they do not say shows as missing."""

import re
from datetime import timedelta
from pathlib import Path
from statistics import median

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tabulate import tabulate

from hub_card.card.metadata import build_metadata
from train.evaluation.result_rows import NOT_RECORDED, Table, evaluation_tables, exam_table
from train.run_files import CURVE_FILE, EVALUATION_PICTURE_FILE
from train.run_report.figures import logged_values
from train.run_report.run_record import RunRecord
from train.run_report.tables import data_tables, show, show_setting


CARD_TEMPLATE = "card_template.md"
EXPORT_CARD_TEMPLATE = "hf_gpt2_card_template.md"
PROJECT_SAMPLE = "sample"  # the rows that come with the project, which are CC0


def render_card(record: RunRecord, repo_id: str, with_export: bool = True) -> str:
    """The card of the branch `main`; `with_export`: the branch `gpt2` holds the model as Hugging Face's GPT-2."""
    results = record.results
    speeds, elapsed = (logged_values(record.final_log, name) for name in ("tokens_per_second", "elapsed_seconds"))
    return _fill(
        CARD_TEMPLATE,
        card_data=build_metadata(record, repo_id).to_yaml(),
        repo_id=repo_id,
        record=record,
        with_export=with_export,
        settings=Table(["setting", "value"], [[name, show_setting(value)] for name, value in record.recipe.items()]),
        data_tables=data_tables(record.results),
        exam=exam_table(results.get("exam") or [], results.get("exam_before") or []),
        evaluation=evaluation_tables(record.evaluation),
        samples=samples_text([one for one in record.samples if one["step"] == record.samples[-1]["step"]]),
        hardware=show(results.get("hardware")),
        versions=show(results.get("versions")),
        tokens_per_second=median(speeds) if speeds else None,
        training_seconds=elapsed[-1] if elapsed else None,
        has_curve=(record.folder / CURVE_FILE).is_file(),
        has_picture=bool(record.evaluation) and (record.folder / EVALUATION_PICTURE_FILE).is_file(),
        reproduce=_reproduce_command(record),
    )


def render_export_card(record: RunRecord, repo_id: str, has_graphs: bool) -> str:
    """The card of the branch `gpt2`, which may have ONNX graphs."""
    metadata = build_metadata(record, repo_id, with_results=False)
    return _fill(EXPORT_CARD_TEMPLATE, card_data=metadata.to_yaml(), repo_id=repo_id, has_graphs=has_graphs)


def _reproduce_command(record: RunRecord) -> str:
    """The command that trains it again from the recipe in the repository."""
    # Names that a shell would split or expand are left to the reader to put right.
    name = re.sub(r"[^\w.-]", "_", record.name)
    script = "finetune" if record.method else "pretrain"
    words = [f"accelerate launch -q train/{script}.py --config recipe.yaml", f"--output_dir runs/{name}"]
    known = {PROJECT_SAMPLE, None, *record.hub_datasets}
    names = [data["name"] if data["name"] in known else "YOUR_COPY_OF_THE_ROWS" for data in record.datasets]
    if not known.issuperset(names):
        words.append(f"--dataset {' '.join(names)}")
    if record.hub_datasets:
        revisions = [data.get("dataset_revision") or "main" for data in record.datasets]
        words.append(f"--dataset_revision {' '.join(revisions)}")
    return " ".join(words)


def _fill(template: str, **values: object) -> str:
    """A template with its values; a name that none was given for is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"show": show_figure, "seconds": show_seconds, "markdown": to_markdown}
    return environment.get_template(template).render(values)


def show_figure(value: object, form: str = "") -> str:
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
