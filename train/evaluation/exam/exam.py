"""The exam: questions with short answers, marked by exact match, by exercise."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.files.shard_access import rows_of
from train.data.files.sources import SAMPLE, SAMPLE_FOLDER, find_source
from train.data.rows.synth import Row, reason_to_drop
from train.evaluation.exam.answers import Answer, answer_questions
from train.evaluation.result_rows import exam_table


@dataclass(frozen=True)
class ExamResult:
    """Marks of one exercise.

    Args:
        exercise: SYNTH's name of it, followed by ", known" or ", new" where the seeds of the training rows are given: a
            known question asks, in other words, for something that training rows said; a new one does not.
        correct: answers equal to the expected text.
        asked: questions.
        chance: the share that the best guess would get without reading the questions.
        well_formed: texts that were reasoning (or none), then an answer, then the end.
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
        known: for each question, whether training rows came from its seed article.

    Returns:
        The marks by exercise, in alphabetical order.
    """
    return mark_answers(questions, answer_questions(model, tokenizer, questions, max_new_tokens), known)


def mark_answers(questions: list[Row], answers: list[Answer], known: list[bool] | None) -> list[ExamResult]:
    """Count the answers, one to each question, that equal the expected text, by exercise."""
    marked: dict[str, list[tuple[str, Answer]]] = {}
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        exercise = question["exercise"]
        if known is not None:
            exercise += ", known" if known[number] else ", new"
        marked.setdefault(exercise, []).append((question["synthetic_answer"].strip(), answer))
    return [
        ExamResult(
            exercise=exercise,
            correct=sum(answer.final == expected for expected, answer in pairs),
            asked=len(pairs),
            # The best that can be had without reading the question: always giving the commonest answer.
            chance=max(Counter(expected for expected, _ in pairs).values()) / len(pairs),
            well_formed=sum(answer.well_formed for _, answer in pairs),
            ended=sum(answer.ended for _, answer in pairs),
        )
        for exercise, pairs in sorted(marked.items())
    ]


def render_exam(results: list[ExamResult], before: Sequence[ExamResult] = ()) -> str:
    """The marks as a table, those of `before` beside them; empty without marks."""
    table = exam_table([asdict(result) for result in results], [asdict(result) for result in before])
    return "" if table is None else table.to_text()
