"""The results of each model, on the same rows and questions, and how two models' results compare."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from train.data.rows.synth import Row
from train.evaluation.exam.exam import name_exercises, take_whole_exam
from train.evaluation.exam.questions import Questions
from train.evaluation.losses.document_scores import Document, DocumentScore, score_documents
from train.evaluation.losses.loss_figures import grouped, loss_record, name_groups
from train.evaluation.losses.validation_rows import ValidationRows
from train.evaluation.opened_model import OpenedModel
from train.evaluation.statistics import OVERALL, PairedTest, adjust_for_groups, compare
from train.evaluation.tasks.lm_eval_tasks import TaskMarks


@dataclass(frozen=True)
class Plan:
    """The measures, the same for all models; `None` for what is left out."""

    validation: ValidationRows | None
    score_first: bool  # whether the first token of each document is scored
    questions: Questions | None
    run_tasks: Callable[[OpenedModel], tuple[list[dict], TaskMarks]] | None


@dataclass
class ModelResults:
    opened: OpenedModel
    record: dict  # the parts of evaluation.json that are the model's: model, validation, exam, tasks
    token_ids: list[list[int]] = field(default_factory=list)  # of each row
    scores: list[DocumentScore] = field(default_factory=list)  # of each row
    right: list[bool] = field(default_factory=list)  # for each question
    task_marks: TaskMarks = field(default_factory=dict)


def measure(opened: OpenedModel, plan: Plan) -> ModelResults:
    """Measure all that is planned; all processes of a distributed run must call this."""
    results = ModelResults(opened, {"model": opened.describe()})
    if plan.validation is not None:
        rows = zip(plan.validation.rows, plan.validation.schemas, strict=True)
        documents = [Document.of(row, schema, opened.tokenizer) for row, schema in rows]
        results.token_ids = [document.token_ids for document in documents]
        results.scores = score_documents(opened, documents, plan.score_first)
        if not all(math.isfinite(score.nats) for score in results.scores):
            raise ValueError(f"{opened.label}: its loss is not a number or infinite: its weights are damaged.")
        results.record["validation"] = {
            "rows": plan.validation.description,
            "rows_used": len(documents),
            "rows_found": len(plan.validation.found),
            "all_read": plan.validation.all_read,
            "first_token_scored": plan.score_first,
            **loss_record(plan.validation.rows, results.scores),
        }
    if plan.questions is not None:
        results.record["exam"], results.right = take_whole_exam(opened, plan.questions)
    if plan.run_tasks is not None:
        results.record["tasks"], results.task_marks = plan.run_tasks(opened)
    return results


def compare_results(this: ModelResults, others: list[ModelResults], plan: Plan, rows_are_given: bool) -> list[dict]:
    """This model against each other one, as in `comparisons` of evaluation.json.

    The tests of single groups are adjusted for those of all comparisons together.
    """
    tests = [_tests(this, other, plan) for other in others]
    adjusted = iter(adjust_for_groups([test for some in tests for test in some]))
    return [
        {
            **other.record,
            "tests": [next(adjusted).to_record(this.opened.label, other.opened.label) for _ in some],
            "notes": _notes(this, other, rows_are_given),
        }
        for other, some in zip(others, tests, strict=True)
    ]


def _tests(this: ModelResults, other: ModelResults, plan: Plan) -> list[PairedTest]:
    tests = []
    if plan.validation is not None:
        tests += _loss_tests(this, other, plan.validation.rows)
    if plan.questions is not None:
        exercises = name_exercises(plan.questions.rows, plan.questions.known)
        for group, numbers in _overall_and_groups({"exercise": exercises}, len(exercises)).items():
            of_group = [[right[n] for n in numbers] for right in (this.right, other.right)]
            tests.append(compare("exact_match", group, *of_group))
    for (task, metric), marks in this.task_marks.items():
        if (task, metric) in other.task_marks:
            tests.append(compare(f"{task} {metric}", OVERALL, marks, other.task_marks[task, metric]))
    return tests


def _loss_tests(this: ModelResults, other: ModelResults, rows: list[Row]) -> list[PairedTest]:
    """Of nats per token where both read the same tokens, else of bits per byte."""
    pairs, tests = list(zip(this.scores, other.scores, strict=True)), []
    if this.token_ids == other.token_ids:
        measure, sums = "loss", [(mine.nats, theirs.nats, mine.tokens) for mine, theirs in pairs]
        answers = [(mine.answer_nats, theirs.answer_nats, mine.answer_tokens) for mine, theirs in pairs]
        if any(tokens for _, _, tokens in answers):
            tests.append(compare("answer_loss", OVERALL, *zip(*answers, strict=True)))
    else:
        measure, sums = "bits_per_byte", [(mine.bits, theirs.bits, mine.text_bytes) for mine, theirs in pairs]
    for group, numbers in _overall_and_groups(name_groups(rows), len(rows)).items():
        tests.append(compare(measure, group, *zip(*(sums[n] for n in numbers), strict=True)))
    return tests


def _overall_and_groups(names: dict[str, list[str]], count: int) -> dict[str, list[int]]:
    """All places, and those of each group, where there is more than one of its kind."""
    groups = {OVERALL: list(range(count))}
    for kind, kind_names in names.items():
        places = grouped(kind_names)
        if len(places) > 1:
            groups |= {f"{kind} {name}": numbers for name, numbers in places.items()}
    return groups


def _notes(this: ModelResults, other: ModelResults, rows_are_given: bool) -> list[str]:
    notes = []
    mine, theirs = this.opened.trained_on, other.opened.trained_on
    if this.token_ids != other.token_ids:
        notes.append("The tokenizers cut the texts otherwise, so nats per token cannot be compared; bits per byte can.")
    if theirs is None:
        notes.append(f"What {other.opened.label} was trained on is not known: it may have seen these rows.")
    elif not rows_are_given and (mine is None or mine.split != theirs.split):
        notes.append(f"{other.opened.label} was trained with another dataset or split: it may have seen these rows.")
    return notes
