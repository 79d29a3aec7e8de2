"""What one evaluation finds of each model, on the same rows and questions, and how two models' findings compare."""

import math
from dataclasses import dataclass, field
from typing import Any

from train.data.rows.synth import Row
from train.evaluation.comparison import OVERALL, PairedTest, adjust_for_groups, compare_marks, compare_sums
from train.evaluation.exam.exam import name_exercises
from train.evaluation.exam.exam_record import take_whole_exam
from train.evaluation.exam.questions import Questions
from train.evaluation.losses.document_scores import Document, DocumentScore, Reading, score_documents
from train.evaluation.losses.loss_figures import GROUPS, grouped, loss_record
from train.evaluation.losses.validation_rows import ValidationRows
from train.evaluation.opened_model import OpenedModel
from train.evaluation.tasks.lm_eval_tasks import TaskSettings, run_tasks


@dataclass(frozen=True)
class Plan:
    """What is measured, the same for all models; `None` for what is left out.

    Args:
        score_first: whether each document's first token is scored; see `Reading`.
        tasks, task_manager: go together.
    """

    validation: ValidationRows | None
    score_first: bool
    questions: Questions | None
    tasks: TaskSettings | None = None
    task_manager: Any = None


@dataclass
class Findings:
    """Of one model.

    Args:
        record: the parts of evaluation.json that are the model's: model, validation, exam, tasks.
        token_ids, scores: of each row.
        right: for each question.
        task_marks: see `TaskResults`.
    """

    record: dict
    token_ids: list[list[int]] = field(default_factory=list)
    scores: list[DocumentScore] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    task_marks: dict[tuple[str, str], list[bool]] = field(default_factory=dict)


def examine(opened: OpenedModel, plan: Plan) -> Findings:
    """Measure all that is planned; all processes of a distributed run must call this."""
    findings = Findings({"model": {**opened.describe(), "window_tokens": opened.window}})
    if plan.validation is not None:
        documents = [Document.of(row, opened.tokenizer) for row in plan.validation.rows]
        reading = Reading(opened.window, opened.reads_after_end_of_text, plan.score_first)
        findings.token_ids = [document.token_ids for document in documents]
        findings.scores = score_documents(opened.model, documents, reading, opened.tokenizer.eos_token_id)
        if not all(math.isfinite(score.nats) for score in findings.scores):
            raise ValueError(f"{opened.label}: its loss is not a number or infinite: its weights are damaged.")
        findings.record["validation"] = {
            "rows": plan.validation.description,
            "rows_used": len(documents),
            "rows_found": len(plan.validation.found),
            "all_read": plan.validation.all_read,
            "first_token_scored": plan.score_first,
            **loss_record(plan.validation.rows, findings.scores),
        }
    if plan.questions is not None:
        findings.record["exam"], findings.right = take_whole_exam(opened, plan.questions)
    if plan.tasks is not None:
        results = run_tasks(opened, plan.task_manager, plan.tasks)
        findings.record["tasks"], findings.task_marks = results.figures, results.marks
    return findings


def compare(this: Findings, others: list[Findings], plan: Plan) -> list[list[PairedTest]]:
    """The tests of this model against each other one; those of groups are adjusted for all of them together."""
    tests = [_tests(this, other, plan) for other in others]
    adjusted = iter(adjust_for_groups([test for some in tests for test in some]))
    return [[next(adjusted) for _ in some] for some in tests]


def _tests(this: Findings, other: Findings, plan: Plan) -> list[PairedTest]:
    tests = []
    if plan.validation is not None:
        tests += _loss_tests(this, other, plan.validation.rows)
    if plan.questions is not None:
        exercises = name_exercises(plan.questions.rows, plan.questions.known)
        for group, numbers in _overall_and_groups({"exercise": exercises}, len(exercises)).items():
            marks = ([right[n] for n in numbers] for right in (this.right, other.right))
            tests.append(compare_marks("exact_match", group, *marks))
    for task, metric in this.task_marks.keys() & other.task_marks.keys():
        marks = (findings.task_marks[task, metric] for findings in (this, other))
        tests.append(compare_marks(f"{task} {metric}", OVERALL, *marks))
    return tests


def _loss_tests(this: Findings, other: Findings, rows: list[Row]) -> list[PairedTest]:
    """Of losses a token where both read the same tokens, else of bits per byte."""
    names = {kind: [name_of(row) for row in rows] for kind, name_of in GROUPS.items()}
    groups = _overall_and_groups(names, len(rows))
    same_tokens = this.token_ids == other.token_ids
    measure = "loss" if same_tokens else "bits_per_byte"
    units = [float(score.tokens if same_tokens else score.text_bytes) for score in this.scores]
    sums = [[score.nats if same_tokens else score.bits for score in findings.scores] for findings in (this, other)]
    tests = [
        compare_sums(measure, group, [sums[0][n] for n in ns], [sums[1][n] for n in ns], [units[n] for n in ns])
        for group, ns in groups.items()
    ]
    if same_tokens:
        answers = [[score.answer_nats for score in findings.scores] for findings in (this, other)]
        answer_tokens = [float(score.answer_tokens) for score in this.scores]
        tests.insert(1, compare_sums("answer_loss", OVERALL, answers[0], answers[1], answer_tokens))
    return tests


def _overall_and_groups(names: dict[str, list[str]], count: int) -> dict[str, list[int]]:
    """All places, and those of each group, where there is more than one of its kind."""
    groups = {OVERALL: list(range(count))}
    for kind, kind_names in names.items():
        places = grouped(kind_names)
        if len(places) > 1:
            groups |= {f"{kind} {name}": numbers for name, numbers in places.items()}
    return groups


def comparison_record(this: Findings, other: Findings, tests: list[PairedTest], notes: list[str]) -> dict:
    """One of `comparisons` in evaluation.json."""
    names = this.record["model"]["name"], other.record["model"]["name"]
    return {
        **other.record,
        "tests": [
            {
                **{key: value for key, value in vars(test).items() if key != "lower_is_better"},
                "better": test.better,
                "sentence": test.sentence(*names),
            }
            for test in tests
        ],
        "notes": notes,
    }


def comparison_notes(this: OpenedModel, other: OpenedModel, same_tokens: bool, rows_are_given: bool) -> list[str]:
    """What limits a comparison of these two."""
    notes = []
    if not same_tokens:
        notes.append(
            "The two tokenizers cut the texts otherwise, so losses a token cannot be compared; bits per byte can."
        )
    if other.trained_on is None:
        notes.append(f"What {other.label} was trained on is not known: it may have seen these rows.")
    elif not rows_are_given and (this.trained_on is None or this.trained_on.split != other.trained_on.split):
        notes.append(f"{other.label} was trained with another dataset or split: it may have seen these rows.")
    return notes
