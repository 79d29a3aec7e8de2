"""The tables of `evaluation.json`, whose keys are described in `train.evaluation.record`."""

from dataclasses import dataclass, field

from train.run_report.run_record import RunFiles
from train.run_report.tables import Table, show, show_share


@dataclass(frozen=True)
class EvaluationSection:
    """A title, tables, and sentences below them."""

    title: str
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluation_sections(run: RunFiles) -> list[EvaluationSection]:
    """What was evaluated, and how the model stands beside others; nothing where there is no evaluation."""
    evaluation = run.evaluation
    if not evaluation:
        return []
    model = evaluation["model"]
    about = ["All intervals have 95% confidence."]
    if not run.evaluation_fits:
        about.append("Of other weights than those that lie in the folder now: evaluate again.")
    sections = [EvaluationSection(f"{model['name']}, {evaluation['date'].replace('T', ' ')}", notes=about)]
    if "validation" in evaluation:
        sections.append(_validation_section(evaluation["validation"]))
    if "exam" in evaluation:
        sections.append(_exam_section(evaluation["exam"]))
    if "tasks" in evaluation:
        sections.append(EvaluationSection("Tasks", [_tasks_table(evaluation["tasks"])]))
    return sections + [_comparison_section(one) for one in evaluation.get("comparisons", [])]


def _validation_section(validation: dict) -> EvaluationSection:
    titles = ["rows", "tokens", "loss", "interval", "perplexity", "bits per byte", "interval", "loss of answers"]

    def row(name: str, group: dict) -> list[str]:
        return [
            name,
            *(show(group.get(key)) for key in ("rows", "tokens")),
            *(_show(group.get("loss"), ".4f"), _show_interval(group.get("loss_interval"), ".4f")),
            _show(group.get("perplexity"), ",.2f"),
            *(_show(group.get("bits_per_byte"), ".4f"), _show_interval(group.get("bits_per_byte_interval"), ".4f")),
            _show(group.get("answer_loss"), ".4f"),
        ]

    tables = [Table(["", *titles], [row("all", validation["overall"])])]
    tables += [
        Table([kind, *titles], [row(name, group) for name, group in validation[f"by_{kind}"].items()])
        for kind in ("exercise", "language")
        if validation.get(f"by_{kind}")
    ]
    used = f"{show(validation.get('rows_used'))} of {show(validation.get('rows_found'))}"
    return EvaluationSection(
        f"Validation rows: {used}", tables, [*_sentences(validation, "rows"), *_sentences(validation, "notes")]
    )


def _exam_section(exam: dict) -> EvaluationSection:
    rows = [
        [
            name,
            show(marks.get("asked")),
            show_share(marks.get("chance")),
            show_share(marks.get("exact_match")),
            _show_interval(marks.get("exact_match_interval"), ".1%"),
            show_share(marks.get("well_formed_share")),
            show_share(marks.get("ended_share")),
        ]
        for name, marks in [("all", exam["overall"]), *((marks["exercise"], marks) for marks in exam["by_exercise"])]
    ]
    tables = [
        Table(["exercise", "questions", "chance", "exact match", "interval", "well formed", "ended"], rows, bars=[3])
    ]
    if exam.get("citations"):
        tables.append(_citations_table(exam["citations"]))
    return EvaluationSection("Exam", tables, [*_sentences(exam, "questions"), *_sentences(exam, "notes")])


def _citations_table(citations: dict) -> Table:
    titles = {
        "exact": "the right sources and no others",
        "citing": "any source",
        "precision": "of the cited sources, those that were given",
        "recall": "of the expected sources, those that are cited",
        "true_quotes": "of the quotations, those that stand in their source",
    }
    rows = [
        [
            title,
            _show(citations.get(f"{name}_share"), ".1%") or "none",  # a share of nothing
            _show_interval(citations.get(f"{name}_interval"), ".1%"),
        ]
        for name, title in titles.items()
    ]
    return Table([f"citations in {show(citations.get('answers'))} answers", "share", "interval"], rows, bars=[1])


def _tasks_table(tasks: list[dict]) -> Table:
    rows = []
    for task in tasks:
        published = [
            f"{one['value']:.4g}" + ("" if one.get("shots") is None else f" ({one['shots']} shots)")
            for one in task.get("gpt2_small") or []
        ]
        rows.append(
            [
                task["task"],
                show(task.get("metric")),
                _show(task.get("value"), ".4f"),
                _show_interval(task.get("interval"), ".4f"),
                show(task.get("samples")),
                show(task.get("shots")),
                ", ".join(published) or "none at hand",
            ]
        )
    return Table(["task", "metric", "value", "interval", "samples", "shots", "GPT-2 small, published"], rows)


def _comparison_section(comparison: dict) -> EvaluationSection:
    other = comparison["model"]
    rows = [
        [
            f"{test['measure']}, {test['group']}",
            *(_show(test.get(key), ".4f") for key in ("this", "other", "difference")),
            _show_interval(test.get("interval"), ".4f"),
            _show(test.get("adjusted_p"), ".3g"),
            {"this": "this", "other": "the other"}.get(test.get("better"), "cannot be told"),
        ]
        for test in comparison["tests"]
    ]
    header = ["measure", "this", "the other", "difference", "interval", "p, by Holm", "better"]
    sentences = [str(test["sentence"]) for test in comparison["tests"] if test["group"] == "overall"]
    return EvaluationSection(
        f"Beside {other['name']}", [Table(header, rows)], sentences + _sentences(comparison, "notes")
    )


def _sentences(section: dict, key: str) -> list[str]:
    found = section.get(key) or []
    return [found] if isinstance(found, str) else [str(sentence) for sentence in found]


def _show(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _show_interval(interval: list[float] | None, form: str) -> str:
    return "" if interval is None else " to ".join(format(bound, form) for bound in interval)
