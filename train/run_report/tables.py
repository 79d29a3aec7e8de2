"""The tables of the page: the exam, the samples, the recipe, and where the run was made."""

import dataclasses
from dataclasses import dataclass

from transformers import TrainingArguments

from train.data.rows.synth import split_answer
from train.evaluation.result_rows import Table, describe_evaluation, exam_table
from train.run_report.environment import HIDDEN, is_secret, shorten_path
from train.run_report.figures import NOT_RECORDED
from train.run_report.run_record import RunFiles
from train.settings.recipe import OWN_GROUPS, TRAINING_DEFAULTS


@dataclass(frozen=True)
class Sample:
    """What the model wrote: the answer, and what stands before it, which is all of it where there is no answer."""

    before: str
    answer: str


@dataclass(frozen=True)
class Setting:
    """One setting of the recipe as text, and its default, where the recipe differs from it."""

    name: str
    value: str
    default: str | None


def exam_marks(run: RunFiles) -> Table | None:
    """The marks by exercise, before and after training, as far as there are any."""
    before = run.results.get("exam_before") or run.exam_before
    table = exam_table(run.results.get("exam") or [], before)
    if table is not None:
        table.notes.append(
            "Chance: always giving the commonest answer. Well formed: reasoning, answer and end. Known: training rows "
            "say it in other words."
        )
    return table


def evaluation_notes(run: RunFiles) -> list[str]:
    """Sentences on the evaluation as a whole; none where there is no evaluation."""
    if not run.evaluation:
        return []
    notes = [*describe_evaluation(run.evaluation).splitlines(), "All intervals have 95% confidence."]
    if not run.evaluation_fits:
        notes.append("It is of other weights than those that lie in the folder now: evaluate again.")
    return notes


def samples_grid(run: RunFiles) -> tuple[list[str], list[tuple[int, list[Sample | None]]]]:
    """The questions, and for each step, the newest first, what the model answered to each of them."""
    questions = list(dict.fromkeys(sample["question"] for sample in run.samples))
    texts = {(sample["step"], sample["question"]): sample["text"] for sample in run.samples}
    steps = sorted({step for step, _ in texts}, reverse=True)

    def find(step: int, question: str) -> Sample | None:
        return Sample(*split_answer(texts[step, question])) if (step, question) in texts else None

    return questions, [(step, [find(step, question) for question in questions]) for step in steps]


def recipe_settings(run: RunFiles) -> dict[str, list[Setting]]:
    """The recipe's settings by group, in the order of its file."""
    own = {
        kind._argument_group_name: {one.name: one.default for one in dataclasses.fields(kind)} for kind in OWN_GROUPS
    }
    stock = {one.name: one.default for one in dataclasses.fields(TrainingArguments)}
    groups: dict[str, dict] = {**own, "training": {**stock, **TRAINING_DEFAULTS}}
    settings: dict[str, list[Setting]] = {}
    for name, value in run.recipe.items():
        group = next((group for group, defaults in groups.items() if name in defaults), "other")
        default = groups.get(group, {}).get(name)
        differs = value != default and not (isinstance(value, bool) and default == ("yes" if value else "no"))
        shown = HIDDEN if is_secret(name) else show_setting(value)
        settings.setdefault(group, []).append(Setting(name, shown, show_setting(default) if differs else None))
    return settings


def show_setting(value: object) -> str:
    """A setting as it is written in a recipe; a float without digits after the point as the whole number it is."""
    if isinstance(value, list):
        return ", ".join(map(show_setting, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else shorten_path(str(value))


def environment_rows(run: RunFiles) -> list[tuple[str, str]]:
    """Names and values, of the newest start; of a run that is older than the report, what its results say."""
    parameters = run.record.get("parameters") or run.results.get("parameters")
    rows = [("parameters", f"{parameters:,}" if parameters else NOT_RECORDED)]
    starts = run.record.get("starts")
    if starts:
        return rows + [(name, _show_any(value)) for name, value in starts[-1]["environment"].items() if value]
    rows += [(name.replace("_", " "), _show_any(run.results.get(name))) for name in ("hardware", "git_commit")]
    rows += [(library, show(version)) for library, version in run.results.get("versions", {}).items()]
    return [*rows, ("command", NOT_RECORDED)]


def show(value: object) -> str:
    """A value, with thousands set apart, or that it is missing."""
    if value is None or value == "":
        return NOT_RECORDED
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _show_any(value: object) -> str:
    """The same; of what has parts, those that are known."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')}: {show(part)}" for name, part in value.items() if part is not None)
    return show(value)


def show_share(share: float | None) -> str:
    return NOT_RECORDED if share is None else f"{share:.1%}"
