"""The tables of the page: exam and evaluation, samples, recipe, and environment."""

import dataclasses

from transformers import TrainingArguments

from train.data.rows.synth import split_answer
from train.evaluation.result_rows import NOT_RECORDED, Table, describe_evaluation, exam_table
from train.run_report.environment import HIDDEN, is_secret, shorten_path
from train.run_report.run_record import RunRecord
from train.settings.recipe import OWN_GROUPS, TRAINING_DEFAULTS


def exam_marks(run: RunRecord) -> Table | None:
    """The marks by exercise, before and after training, as far as there are any."""
    table = exam_table(run.results.get("exam") or [], run.results.get("exam_before") or run.exam_before)
    if table is not None:
        table.notes.append(
            "Chance: always giving the commonest answer. Well formed: reasoning, answer and end. Known: training rows "
            "say it in other words."
        )
    return table


def evaluation_notes(run: RunRecord) -> list[str]:
    """Sentences on the evaluation as a whole; none where there is no evaluation."""
    if not run.evaluation:
        return []
    notes = [*describe_evaluation(run.evaluation).splitlines(), "All intervals have 95% confidence."]
    if not run.evaluation_fits:
        notes.append("It is of other weights than those in the folder now: evaluate again.")
    return notes


def samples_grid(run: RunRecord) -> tuple[list[str], list[tuple[int, list[tuple[str, str]]]]]:
    """The questions; and for each step, the newest first, the text that answers each of them, as the part before the
    answer and the answer."""
    questions = list(dict.fromkeys(sample["question"] for sample in run.samples))
    texts = {(sample["step"], sample["question"]): sample["text"] for sample in run.samples}
    steps = sorted({step for step, _ in texts}, reverse=True)
    return questions, [(step, [split_answer(texts.get((step, name), "")) for name in questions]) for step in steps]


def recipe_settings(run: RunRecord) -> dict[str, list[tuple[str, str, str | None]]]:
    """The recipe's settings by group, in the order of its file: name, value, and the default where it is another."""
    defaults = {kind._argument_group_name: _defaults(kind) for kind in OWN_GROUPS}
    defaults["training"] = {**_defaults(TrainingArguments), **TRAINING_DEFAULTS}
    settings: dict[str, list[tuple[str, str, str | None]]] = {}
    for name, value in run.recipe.items():
        group = next((group for group, known in defaults.items() if name in known), "other")
        default = defaults.get(group, {}).get(name)
        differs = value != default and not (isinstance(value, bool) and default == ("yes" if value else "no"))
        shown = HIDDEN if is_secret(name) else show_setting(value)
        settings.setdefault(group, []).append((name, shown, show_setting(default) if differs else None))
    return settings


def _defaults(kind: type) -> dict[str, object]:
    return {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(kind)
    }


def show_setting(value: object) -> str:
    """A setting as it is written in a recipe; a float without digits after the point as the whole number it is."""
    if isinstance(value, list):
        return ", ".join(map(show_setting, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None else shorten_path(str(value))


def environment_rows(run: RunRecord) -> list[tuple[str, str]]:
    """Names and values, of the newest start; of a run without a record of it, what its results say."""
    known = {**run.record, **run.results}
    starts = run.record.get("starts")
    if starts:
        environment = {name: value for name, value in starts[-1]["environment"].items() if value}
    else:
        environment = {"command": None, "git commit": known.get("git_commit"), "hardware": known.get("hardware")}
        environment |= known.get("versions", {})
    kwh = run.emissions.get("energy_consumed")
    energy = {} if kwh is None else {"energy, by codecarbon": f"{kwh:.3g} kWh"}
    rows = {"parameters": known.get("parameters"), **energy, **environment}
    return [(name, show(value)) for name, value in rows.items()]


def show(value: object) -> str:
    """A value, with thousands set apart, or that it is missing; of a value with parts, those that are known."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {show(part)}" for name, part in value.items() if part is not None)
    if value is None or value == "":
        return NOT_RECORDED
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
