"""The exam: questions with short answers, marked by exact match, by exercise."""

from collections import Counter

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row
from train.evaluation.exam.answers import Answer, answer_questions
from train.evaluation.exam.citations import count_citations
from train.evaluation.exam.questions import Questions, count_too_long
from train.evaluation.opened_model import OpenedModel
from train.evaluation.statistics import share_interval


def take_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    max_new_tokens: int,
    known: list[bool] | None = None,
) -> list[dict]:
    """Ask every question, greedily, and mark the answers, as `mark_answers` does; all processes of a distributed run
    must call this. `known`: see `name_exercises`."""
    answers = answer_questions(model, tokenizer, questions, max_new_tokens)
    return mark_answers(name_exercises(questions, known), questions, answers)


def take_whole_exam(opened: OpenedModel, questions: Questions) -> tuple[dict, list[bool]]:
    """Ask all questions; all processes of a distributed run must call this. Returns `exam` of evaluation.json, and for
    each question of the exam whether its answer is right."""
    rows = questions.rows
    answers = answer_questions(opened.model, opened.tokenizer, rows, questions.max_new_tokens, opened.window)
    citing = answer_questions(
        opened.model, opened.tokenizer, questions.citation_rows, questions.citation_tokens, opened.window
    )
    overall, *by_exercise = [
        _with_intervals(mark)
        for names in (["all"] * len(rows), name_exercises(rows, questions.known))
        for mark in mark_answers(names, rows, answers)
    ]
    return {
        "questions": questions.description,
        "notes": questions.notes,
        "asked": len(rows),
        "max_new_tokens": questions.max_new_tokens,
        "too_long": count_too_long(opened, questions),
        "overall": overall,
        "by_exercise": by_exercise,
        "citations": count_citations([*rows, *questions.citation_rows], [*answers, *citing]),
    }, [_is_exact(row, answer) for row, answer in zip(rows, answers, strict=True)]


def name_exercises(questions: list[Row], known: list[bool] | None) -> list[str]:
    """Each question's exercise by SYNTH's name; where `known` is given, followed by ", known" if training rows said, in
    other words, what it asks for, else by ", new"."""
    names = [question["exercise"] for question in questions]
    if known is None:
        return names
    return [f"{name}, {'known' if one else 'new'}" for name, one in zip(names, known, strict=True)]


def mark_answers(exercises: list[str], questions: list[Row], answers: list[Answer]) -> list[dict]:
    """The marks of each exercise, in alphabetical order.

    Returns:
        `exercise`; `correct`, the answers equal to the expected text, to the letter; `asked`; `chance`, the share that
        always giving the commonest answer would get; `well_formed`, the texts that are reasoning (or none), then an
        answer, then the end; `ended`, the texts that the model ended by itself; `cut_in_reasoning`, those that the
        limit of tokens cut off inside their reasoning.
    """
    marked: dict[str, list[tuple[Row, Answer]]] = {}
    for exercise, question, answer in zip(exercises, questions, answers, strict=True):
        marked.setdefault(exercise, []).append((question, answer))
    return [
        {
            "exercise": exercise,
            "correct": sum(_is_exact(question, answer) for question, answer in pairs),
            "asked": len(pairs),
            "chance": max(Counter(row["synthetic_answer"].strip() for row, _ in pairs).values()) / len(pairs),
            "well_formed": sum(answer.well_formed for _, answer in pairs),
            "ended": sum(answer.ended for _, answer in pairs),
            "cut_in_reasoning": sum(answer.cut_in_reasoning for _, answer in pairs),
        }
        for exercise, pairs in sorted(marked.items())
    ]


def _is_exact(question: Row, answer: Answer) -> bool:
    return answer.final == question["synthetic_answer"].strip()


def _with_intervals(mark: dict) -> dict:
    shares = {"correct": "exact_match", "well_formed": "well_formed_share", "ended": "ended_share"}
    for count, share in shares.items():
        mark[share] = mark[count] / mark["asked"]
        mark[f"{share.removesuffix('_share')}_interval"] = share_interval(mark[count], mark["asked"])
    return mark
