"""`report.html`: one file that opens from the disk and asks no network for anything."""

import importlib.resources
import secrets
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.evaluation.result_rows import evaluation_tables
from train.run_files import write_whole
from train.run_report.condition import find_condition
from train.run_report.environment import shorten_paths_in
from train.run_report.figures import charts_as_data, describe_progress, make_tiles
from train.run_report.run_record import RunFiles
from train.run_report.statistics_tables import statistics_sections
from train.run_report.tables import environment_rows, evaluation_notes, exam_marks, recipe_settings, samples_grid


PAGE_FOLDER = Path(__file__).parent
SECONDS_BETWEEN_RELOADS = 30
# Without a word for so long, or for so many times the longest silence so far, a run may be dead.
SILENT_SECONDS, SILENT_TIMES = 300, 3


def write_page(run: RunFiles, file: Path) -> None:
    """Write the page, in the place of the one before."""
    write_whole(file, render_page(run))


def render_page(run: RunFiles) -> str:
    # The page runs the scripts that carry this word, and no other: not those that a text from the run could bring.
    nonce = secrets.token_hex(16)
    environment = Environment(
        loader=FileSystemLoader(PAGE_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    condition = find_condition(run)
    questions, samples = samples_grid(run)
    updated_at = run.record.get("updated_at")
    page = environment.get_template("page.html.jinja").render(
        nonce=nonce,
        style=(PAGE_FOLDER / "page.css").read_text(encoding="utf-8"),
        name=run.name,
        condition=condition,
        updated=updated_at and datetime.fromtimestamp(updated_at, UTC),
        damaged=[shorten_paths_in(message) for message in run.damaged],
        progress=describe_progress(run),
        tiles=make_tiles(run),
        exam=exam_marks(run),
        evaluation_notes=evaluation_notes(run),
        evaluation_tables=evaluation_tables(run.evaluation),
        questions=questions,
        samples=samples,
        statistics_parts=statistics_sections(run),
        recipe=recipe_settings(run),
        environment=environment_rows(run),
        starts=run.record.get("starts", []),
        data={
            **charts_as_data(run),
            "live": condition.is_live,
            "updated_at": updated_at,
            "silent_seconds": max(SILENT_SECONDS, SILENT_TIMES * run.record.get("longest_gap_seconds", 0.0)),
            "reload_seconds": SECONDS_BETWEEN_RELOADS,
        },
    )
    library = importlib.resources.files("plotly") / "package_data" / "plotly.min.js"
    script = f'<script nonce="{nonce}">'
    page += f"{script}{library.read_text(encoding='utf-8')}</script>\n"
    page += f"{script}\n{(PAGE_FOLDER / 'page.js').read_text(encoding='utf-8')}</script>\n</body>\n</html>\n"
    return page.encode("utf-8", "replace").decode()  # a name in the data can hold half a character
