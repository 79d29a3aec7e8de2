"""The exam: questions with short answers, marked by exact match, by exercise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.files.sources import SAMPLE, SAMPLE_FOLDER, find_source
from train.data.rows.reading import rows_of
from train.data.rows.synth import Row, reason_to_drop
from train.evaluation.exam.answers import Answer, answer_questions
from train.evaluation.result_rows import exam_table


@dataclass(frozen=True)
class ExamResult:
    """Marks of one exercise.

    Args:
        exercise: see `name_exercises`.
        correct: answers equal to the expected text.
        asked: questions.
        chance: the share that the best guess would get without reading the questions: always the commonest answer.
        well_formed: texts that are reasoning (or none), then an answer, then the end.
        ended: texts that the model ended by itself.
    """

    exercise: str
    correct: int
    asked: int
    chance: float
    well_formed: int
    ended: int

    @property
    def exact_match(self) -> float:
        return self.correct / self.asked


def load_exam(exam: str) -> list[Row]:
    """The questions of `--exam`: "sample", or a file of rows with SYNTH's columns; unusable rows are left out.

    Raises:
        ValueError: no such file, or no usable question in it.
    """
    source = find_source(str(SAMPLE_FOLDER / "exam.parquet") if exam == SAMPLE else exam)
    rows = [row for row in rows_of(source) if reason_to_drop(row) is None]
    if not rows:
        raise ValueError(f"--exam {exam} holds no usable question.")
    return rows


def take_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    max_new_tokens: int,
    known: list[bool] | None = None,
) -> list[ExamResult]:
    """Ask every question, greedily, and compare the answers with the expected ones, to the letter.

    All processes of a distributed run must call this.

    Args:
        questions: rows with SYNTH's columns.
        max_new_tokens: length of reasoning and answer together; a text cut off before its answer is wrong.
        known: see `name_exercises`.

    Returns:
        The marks by exercise, in alphabetical order.
    """
    answers = answer_questions(model, tokenizer, questions, max_new_tokens)
    return mark_answers(name_exercises(questions, known), questions, answers)


def name_exercises(questions: list[Row], known: list[bool] | None) -> list[str]:
    """Each question's exercise by SYNTH's name, followed by ", known" or ", new" where `known` is given.

    A known question asks, in other words, for something that training rows said; a new one does not.
    """
    names = [question["exercise"] for question in questions]
    if known is None:
        return names
    return [f"{name}, {'known' if one else 'new'}" for name, one in zip(names, known, strict=True)]


def is_exact(question: Row, answer: Answer) -> bool:
    """Whether the answer is the expected text, to the letter."""
    return answer.final == question["synthetic_answer"].strip()


def mark_answers(exercises: list[str], questions: list[Row], answers: list[Answer]) -> list[ExamResult]:
    """Count right and well-formed answers, one to each question, by the given names."""
    marked: dict[str, list[tuple[Row, Answer]]] = {}
    for exercise, question, answer in zip(exercises, questions, answers, strict=True):
        marked.setdefault(exercise, []).append((question, answer))
    return [
        ExamResult(
            exercise=exercise,
            correct=sum(is_exact(question, answer) for question, answer in pairs),
            asked=len(pairs),
            chance=max(Counter(row["synthetic_answer"].strip() for row, _ in pairs).values()) / len(pairs),
            well_formed=sum(answer.well_formed for _, answer in pairs),
            ended=sum(answer.ended for _, answer in pairs),
        )
        for exercise, pairs in sorted(marked.items())
    ]


def render_exam(marks: list[dict], before: Sequence[dict] = ()) -> str:
    """Marks as a table, those of `before` beside them; empty without marks. A mark has the keys of `ExamResult`."""
    table = exam_table(marks, before)
    return "" if table is None else table.to_text()
