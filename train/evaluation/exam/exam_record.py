"""An exam's marks with their intervals, as they stand in evaluation.json."""

from dataclasses import asdict

from train.data.rows.synth import question_to_ids, row_to_question
from train.evaluation.exam.answers import answer_questions
from train.evaluation.exam.citations import count_citations
from train.evaluation.exam.exam import ExamResult, is_exact, mark_answers, name_exercises
from train.evaluation.exam.questions import Questions
from train.evaluation.model.opened_model import OpenedModel
from train.evaluation.statistics.intervals import share_interval


def take_whole_exam(opened: OpenedModel, questions: Questions) -> tuple[dict, list[bool]]:
    """Ask all questions; all processes of a distributed run must call this.

    Returns:
        `exam` of evaluation.json, and for each question of the exam whether its answer is right.
    """
    rows = questions.rows
    answers = answer_questions(opened.model, opened.tokenizer, rows, questions.max_new_tokens)
    citing = answer_questions(opened.model, opened.tokenizer, questions.citation_rows, questions.citation_tokens)
    (overall,) = mark_answers(["all"] * len(rows), rows, answers)
    return {
        "questions": questions.description,
        "notes": questions.notes,
        "asked": len(rows),
        "max_new_tokens": questions.max_new_tokens,
        "too_long": count_too_long(opened, questions),
        "overall": _to_record(overall),
        "by_exercise": [
            _to_record(marks) for marks in mark_answers(name_exercises(rows, questions.known), rows, answers)
        ],
        "citations": count_citations([*rows, *questions.citation_rows], [*answers, *citing]),
    }, [is_exact(row, answer) for row, answer in zip(rows, answers, strict=True)]


def count_too_long(opened: OpenedModel, questions: Questions) -> int:
    """The questions that leave no room in the context for an answer, and so are not put to the model.

    Raises:
        ValueError: that would be all of them.
    """
    room = opened.context - questions.max_new_tokens
    lengths = [len(question_to_ids(row_to_question(row), opened.tokenizer)) for row in questions.rows]
    if min(lengths) > room:
        raise ValueError(
            f"{opened.label}: no question fits: the shortest has {min(lengths)} tokens, and the context of "
            f"{opened.context} less --exam_tokens {questions.max_new_tokens} leaves {max(room, 0)}. Give fewer "
            "--exam_tokens, or --no_exam."
        )
    return sum(length > room for length in lengths)


def _to_record(marks: ExamResult) -> dict:
    record = asdict(marks) | {"exact_match": marks.exact_match}
    record["exact_match_interval"] = share_interval(marks.correct, marks.asked)
    for name, count in (("well_formed", marks.well_formed), ("ended", marks.ended)):
        record[f"{name}_share"] = count / marks.asked
        record[f"{name}_interval"] = share_interval(count, marks.asked)
    return record
