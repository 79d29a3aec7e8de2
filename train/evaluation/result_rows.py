"""The rows of all tables of `evaluation.json` and of the exams in `results.json`; others only render them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from train.evaluation.statistics import share_interval


NOT_RECORDED = "not recorded"
EXAM_SHARES = {"correct": "exact match", "well_formed": "well formed", "ended": "ended by itself"}
CITATION_SHARES = {
    "exact": "the right sources and no others",
    "citing": "any source",
    "precision": "of the cited sources, those that were given",
    "recall": "of the expected sources, those that are cited",
    "true_quotes": "of the quotations, those that stand in their source",
}


@dataclass(frozen=True)
class Table:
    header: list[str]  # columns after the first are aligned right; a line end may stand in a title
    rows: list[list[str]]
    title: str = ""
    bars: list[int] = field(default_factory=list)  # columns of percentages that a page may also draw
    notes: list[str] = field(default_factory=list)  # sentences below the table

    def to_text(self, form: str = "plain") -> str:  # of tabulate
        align = ("left", *["right"] * (len(self.header) - 1))
        text = tabulate(self.rows, self.header, tablefmt=form, disable_numparse=True, colalign=align)
        return "\n".join([*filter(None, [self.title]), text, *self.notes])


def evaluation_tables(evaluation: dict) -> list[Table]:
    """All parts of an evaluation that were made."""
    tables = []
    if "validation" in evaluation:
        tables.append(_loss_table(evaluation["validation"]))
    if "exam" in evaluation:
        tables += _asked_exam_tables(evaluation["exam"])
    if "tasks" in evaluation:
        tables.append(_tasks_table(evaluation["tasks"], evaluation.get("versions", {}).get("lm_eval", "")))
        tables += _core_tables(evaluation)
    return tables + [_comparison_table(evaluation["model"]["name"], one) for one in evaluation.get("comparisons", [])]


def describe_evaluation(evaluation: dict) -> str:
    """The model, the date, and the parts that are older."""
    model, kept_from = evaluation["model"], evaluation.get("kept_from", {})
    kept = ", ".join(f"{part} of {date[:10]}" for part, date in kept_from.items())
    about = f"{model['name']}: {model['parameters']:,} parameters, evaluated on {evaluation['date'][:10]}"
    return about + (f"\nKept from an earlier evaluation of the same weights: {kept}" if kept else "")


def loss_groups(validation: dict) -> list[tuple[str, dict]]:
    """The losses of all rows, then of each exercise, language and dataset where there are several."""
    groups = [("all", validation["overall"])]
    for kind in ("exercise", "language", "dataset"):
        by_kind = validation.get(f"by_{kind}", {})
        groups += [(f"{kind}: {name}", figures) for name, figures in by_kind.items()] if len(by_kind) > 1 else []
    return groups


def shown_marks(exam: dict) -> list[dict]:
    """The marks of all questions, then of each exercise where there are several."""
    return [exam["overall"], *(exam["by_exercise"] if len(exam["by_exercise"]) > 1 else [])]


def _loss_table(validation: dict) -> Table:
    rows = [
        [
            name,
            f"{figures['rows']:,}",
            f"{figures['tokens']:,}",
            _with_half(figures["loss"], figures["loss_interval"], ".3f"),
            f"{figures['perplexity']:,.2f}",
            _with_half(figures["bits_per_byte"], figures["bits_per_byte_interval"], ".3f"),
            _with_half(figures["answer_loss"], figures["answer_loss_interval"], ".3f"),
        ]
        for name, figures in loss_groups(validation)
    ]
    found = f"{'' if validation['all_read'] else 'first '}{validation['rows_found']:,} {validation['rows']}"
    header = ["", "rows", "tokens", "nats per\ntoken", "perplexity", "bits per\nbyte", "answers: nats\nper token"]
    return Table(header, rows, f"Validation loss on {validation['rows_used']:,} of the {found}")


def exam_table(after: list[dict], before: Sequence[dict] = (), title: str = "Exam") -> Table | None:
    """Marks by exercise, as `train.evaluation.exam.exam.mark_answers` returns them, before and after a training.

    Without `before`, `after` are the marks of the model as it is.
    """
    marks = {"before": {mark["exercise"]: mark for mark in before}, "after": {mark["exercise"]: mark for mark in after}}
    times = [time for time, by_exercise in marks.items() if by_exercise]
    if not times:
        return None
    columns = [
        (f"{name}\n{time}" if before else name, time, key) for key, name in EXAM_SHARES.items() for time in times
    ]
    if after:
        columns.insert(len(times), ("95%\ninterval", "after", "interval"))
    rows = [
        [
            exercise,
            f"{mark['asked']:,}",
            NOT_RECORDED if mark.get("chance") is None else f"{mark['chance']:.1%}",
            *(_mark(marks[time].get(exercise, {}), key) for _, time, key in columns),
        ]
        for exercise, mark in {**marks["before"], **marks["after"]}.items()
    ]
    header = ["exercise", "questions", "chance", *(name for name, _, _ in columns)]
    bars = [place for place, (_, _, key) in enumerate(columns, 3) if key == "correct"]
    cut = [f"{mark['cut_in_reasoning']:,} ({mark['exercise']})" for mark in after if mark.get("cut_in_reasoning")]
    notes = [f"Cut off inside their reasoning, and so without an answer: {', '.join(cut)}."] if cut else []
    return Table(header, rows, title, bars, notes)


def _mark(mark: dict, key: str) -> str:
    if key == "interval":
        return _range(share_interval(mark["correct"], mark["asked"]), ".1%") if mark else ""
    return f"{mark[key] / mark['asked']:.1%}" if key in mark else NOT_RECORDED


def _asked_exam_tables(exam: dict) -> list[Table]:
    table = exam_table(shown_marks(exam), title=f"Exam of {exam['asked']:,} questions: {exam['questions']}")
    assert table is not None
    if exam["too_long"]:
        table.notes.append(f"{exam['too_long']:,} questions leave no room in the context for an answer: wrong.")
    table.notes.extend(exam["notes"])
    citations = exam["citations"]
    if citations is None:
        return [table]
    shares = {key: citations[f"{key}_share"] for key in CITATION_SHARES}
    rows = [
        [name, "none" if shares[key] is None else f"{shares[key]:.1%}", _range(citations.get(f"{key}_interval"), ".1%")]
        for key, name in CITATION_SHARES.items()
    ]
    title = f"Citations in {citations['answers']:,} answers to rag questions"
    return [table, Table(["", "share", "95% interval"], rows, title, bars=[1])]


def _tasks_table(tasks: list[dict], version: str) -> Table:
    """Of a group's tasks the group alone."""
    rows: list[list[str]] = []
    sources: list[str] = []
    for figure in [figure for figure in tasks if not figure["part_of_group"]]:
        published = []
        for one in figure["gpt2_small"]:
            source = one["source"] + (f" ({one['note']})" if one["note"] else "")
            if source not in sources:
                sources.append(source)
            shots = "" if one["shots"] == figure["shots"] else f" ({one['shots']}-shot)"
            published.append(f"{one['value']:.4g}{shots} [{sources.index(source) + 1}]")
        rows.append(
            [
                f"{figure['task']} {figure['metric']}",
                "" if figure["samples"] is None else f"{figure['samples']:,}",
                "" if figure["shots"] is None else str(figure["shots"]),
                _with_half(figure["value"], figure["interval"], ".4f"),
                ", ".join(published) or "none found",
            ]
        )
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, 1)]
    header = ["task", "questions", "shots", "this model", "GPT-2 small, published"]
    return Table(header, rows, f"Tasks of lm-evaluation-harness {version}".strip(), notes=notes)


def _core_tables(evaluation: dict) -> list[Table]:
    """The parts of CORE, beside those of the models that it is compared with; none if it was not measured."""
    models = [evaluation, *evaluation.get("comparisons", [])]
    found = [(model["model"]["name"], one) for model in models for one in model.get("tasks", []) if one.get("parts")]
    if "tasks" not in evaluation or not found or found[0][0] != evaluation["model"]["name"]:
        return []
    (_, this), *others = found
    columns = [{part["name"]: f"{part['centred']:.4f}" for part in other["parts"]} for _, other in others]
    rows = [
        [
            *(part["name"], f"{part['samples']:,}", str(part["shots"]), f"{part['chance']:.3g}"),
            *(f"{part['value']:.4f}", f"{part['centred']:.4f}"),
            *(column.get(part["name"], "missing") for column in columns),
        ]
        for part in this["parts"]
    ]
    rows.append(["mean", *[""] * 4, *(f"{figure['value']:.4f}" for _, figure in found)])
    got, missing = len(this["parts"]), this["missing"]
    title = "CORE" + (f" over {got} of {got + len(missing)}, which is not to be compared with CORE" if missing else "")
    header = [
        "task",
        "questions",
        "shots",
        "chance",
        "accuracy",
        "centred",
        *(f"{name}:\ncentred" for name, _ in others),
    ]
    notes = [
        "Centred: (accuracy - chance) / (1 - chance).",
        *(f"Missing: {name}, {missing[name]}." for name in missing),
    ]
    return [Table(header, rows, title, notes=notes)]


def _comparison_table(name: str, comparison: dict) -> Table:
    """Every test, and below them the sentences on all rows together."""
    other = comparison["model"]["name"]
    rows = [
        [
            f"{test['measure'].replace('_', ' ')}, {test['group']}",
            f"{test['n']:,}",
            *(f"{test[key]:.4f}" for key in ("this", "other", "difference")),
            _range(test["interval"], ".4f"),
            f"{test['adjusted_p']:.3g}",
            test["better"] or "cannot be told",
        ]
        for test in comparison["tests"]
    ]
    header = ["measure", "n", "this", "other", "difference", "95%\ninterval", "p, by\nHolm", "better"]
    sentences = [test["sentence"] for test in comparison["tests"] if test["group"] == "overall"]
    return Table(header, rows, f"{name} beside {other}", notes=sentences + comparison["notes"])


def _with_half(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    """A value and half of its interval."""
    if value is None:
        return ""
    return f"{value:{form}}" if interval is None else f"{value:{form}} ± {(interval[1] - interval[0]) / 2:{form}}"


def _range(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"
