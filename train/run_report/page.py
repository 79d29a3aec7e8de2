"""`report.html`: one file that opens from the disk and fetches nothing."""

import importlib.resources
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.evaluation.result_rows import evaluation_tables
from train.run_files import write_whole
from train.run_report.environment import shorten_paths_in
from train.run_report.figures import describe_progress, make_charts, make_tiles
from train.run_report.run_record import RunRecord
from train.run_report.tables import (
    data_tables,
    environment_rows,
    evaluation_notes,
    exam_marks,
    recipe_settings,
    samples_grid,
)


TEMPLATE = Path(__file__).parent / "template"
TEMPLATES = Environment(loader=FileSystemLoader(TEMPLATE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
SECONDS_BETWEEN_RELOADS = 30


def write_page(run: RunRecord, file: Path) -> None:
    write_whole(file, render_page(run))


def render_page(run: RunRecord) -> str:
    """The page, with the charts' library in it. Texts of the run are escaped: none of them can become an element."""
    updated_at = run.record.get("updated_at")
    questions, samples = samples_grid(run)
    page = TEMPLATES.get_template("page.html.jinja").render(
        run=run,
        style=(TEMPLATE / "page.css").read_text(encoding="utf-8"),
        library=(importlib.resources.files("plotly") / "package_data/plotly.min.js").read_text(encoding="utf-8"),
        script=(TEMPLATE / "page.js").read_text(encoding="utf-8"),
        updated=updated_at and datetime.fromtimestamp(updated_at, UTC),
        damaged=[shorten_paths_in(message) for message in run.damaged.values()],
        share=min(run.step / run.total_steps, 1.0) if run.total_steps else None,
        progress=describe_progress(run),
        tiles=make_tiles(run),
        data={**make_charts(run), "reload_seconds": SECONDS_BETWEEN_RELOADS if run.condition == "running" else None},
        exam=exam_marks(run),
        evaluation_notes=evaluation_notes(run),
        evaluation_tables=evaluation_tables(run.evaluation),
        questions=questions,
        samples=samples,
        data_tables=data_tables({**run.record, **run.results}),
        recipe=recipe_settings(run),
        environment=environment_rows(run),
    )
    return page.encode("utf-8", "replace").decode()  # a name in the data can hold half a character
