"""The questions that a model is asked, how long it may answer, and which of them its training has answered."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from train.data.files.sources import SAMPLE, SAMPLE_FOLDER, Source, find_source
from train.data.from_settings import to_preparations
from train.data.rows.reading import usable_rows_of
from train.data.rows.synth import Row, question_to_ids, row_to_question
from train.data.sequences.prepare import prepare_data, touch_articles
from train.evaluation.exam.citations import expects_citations
from train.evaluation.losses.validation_rows import ValidationRows, draw_rows
from train.evaluation.opened_model import OpenedModel, demo_recipe


SHORT_ANSWER_TOKENS = 16
MOST_EXAM_TOKENS = 128  # SYNTH-like rows with short answers take 90 to 110 with their reasoning, 19 of 20 of them
MOST_CITATION_TOKENS = 256
MOST_CITATION_QUESTIONS = 100
# Rows that were never prepared here are prepared to tell known from new questions if they are no more than this, which
# takes about a minute.
BYTES_TO_PREPARE = 100 * 2**20


@dataclass(frozen=True)
class Questions:
    rows: list[Row]  # the exam
    known: list[bool] | None  # for each, whether training rows came from its seed article; `None`: not known
    max_new_tokens: int  # reasoning and answer together
    citation_rows: list[Row]  # further rag rows, to see what is cited; their answers are not short, and not marked
    citation_tokens: int  # as `max_new_tokens`, for those
    description: str  # where they come from
    notes: list[str]  # the meaning of known and new, and what was shortened


def load_exam(exam: str) -> list[Row]:
    """The questions of `--exam`: "sample", or rows with SYNTH's columns; unusable ones are left out and counted. A
    `ValueError` where there is no such file, or no usable question in it."""
    source = find_source(str(SAMPLE_FOLDER / "exam.parquet") if exam == SAMPLE else exam)
    rows = list(usable_rows_of(source))
    if not rows:
        raise ValueError(f"--exam {exam} holds no usable question.")
    return rows


def can_be_asked(opened: OpenedModel, exam: str | None, validation: ValidationRows | None) -> bool:
    """Whether there is an exam: a model of texts, for which none is named, has no questions."""
    named = exam or (opened.trained_on and opened.trained_on.exam)
    return bool(named) or validation is None or bool(validation.questions)


def choose_questions(
    opened: OpenedModel,
    exam: str | None,
    exam_tokens: int | None,
    validation: ValidationRows | None,
    max_questions: int,
) -> Questions:
    """The exam that was asked for, else the recipe's, else the sample's for a model that was trained on the sample or
    has no recipe, else validation rows with short answers; a `ValueError` where there is none."""
    trained_on = opened.trained_on or demo_recipe()
    of_recipe = trained_on.exam_tokens if exam in (None, trained_on.exam) else None
    half = max(1, opened.window // 2)
    wanted = exam_tokens or of_recipe or min(MOST_EXAM_TOKENS, half)
    exam_tokens = exam_tokens or (wanted if wanted < opened.window else half)
    exam = exam or trained_on.exam or (SAMPLE if SAMPLE in trained_on.data.dataset else None)
    if exam is not None:
        rows = load_exam(exam)
        description = "the embedded sample's exam" if exam == SAMPLE else f"exam {Path(exam).name}"
    else:
        rows, description = _short_answers(opened, validation)
    rows = draw_rows(rows, max_questions)
    citation_tokens = max(exam_tokens, min(MOST_CITATION_TOKENS, opened.context // 2))
    citation_rows: list[Row] = []
    if validation is not None and not any(map(expects_citations, rows)):
        room = min(opened.context - citation_tokens, opened.window - 1)
        rag = [row for row in validation.questions if expects_citations(row) and _question_tokens(row, opened) <= room]
        citation_rows = draw_rows(rag, MOST_CITATION_QUESTIONS)
    known, note = _tell_known(opened, rows)
    notes = [note]
    if exam_tokens < wanted:
        notes.append(
            f"Answers have at most {exam_tokens} tokens and not {wanted}: half of the {opened.window} that "
            f"{opened.label} reads at once."
        )
    return Questions(rows, known, exam_tokens, citation_rows, citation_tokens, description, notes)


def count_too_long(opened: OpenedModel, questions: Questions) -> int:
    """The questions that leave no room for an answer, and so are not put to the model; a `ValueError` if that is
    all."""
    room = min(opened.context - questions.max_new_tokens, opened.window - 1)
    lengths = [_question_tokens(row, opened) for row in questions.rows]
    if min(lengths) > room:
        raise ValueError(
            f"{opened.label}: no question fits: the shortest has {min(lengths)} tokens, and {max(room, 0)} are left of "
            f"its context of {opened.context} (trained: {opened.window}) by --exam_tokens {questions.max_new_tokens}. "
            "Give fewer --exam_tokens, or --no_exam."
        )
    return sum(length > room for length in lengths)


def _question_tokens(row: Row, opened: OpenedModel) -> int:
    return len(question_to_ids(row_to_question(row), opened.tokenizer))


def _short_answers(opened: OpenedModel, validation: ValidationRows | None) -> tuple[list[Row], str]:
    if validation is None:
        raise ValueError("The model's recipe names no exam, and without validation rows none can be made: give --exam.")
    answers = [row["synthetic_answer"].strip() for row in validation.questions]
    lengths = [len(ids) for ids in opened.tokenizer(answers, split_special_tokens=True, verbose=False)["input_ids"]]
    short = [row for row, length in zip(validation.questions, lengths, strict=True) if length <= SHORT_ANSWER_TOKENS]
    if not short:
        raise ValueError(
            f"None of the {len(answers):,} validation rows has an answer of at most {SHORT_ANSWER_TOKENS} "
            "tokens, so no exam can be made of them: give --exam, or --no_exam."
        )
    return short, f"{validation.description}, answers of at most {SHORT_ANSWER_TOKENS} tokens"


def _tell_known(opened: OpenedModel, rows: list[Row]) -> tuple[list[bool] | None, str]:
    not_told = "Known and new questions are not told apart"
    if opened.trained_on is None:
        return None, f"{not_told}: the model has no recipe."
    settings = opened.trained_on.data
    try:
        preparations = [] if settings.streaming else to_preparations(settings, opened.tokenizer)
        if not preparations or not all(one.is_whole or _is_small(one.source) for one in preparations):
            return None, f"{not_told}: the training rows are many, and not prepared here."
        writes = PartialState().is_local_main_process
        files = [file for one in preparations for file in prepare_data(one, writes=writes).article_files]
        known = touch_articles(files, rows)
    except (ValueError, OSError):
        return None, f"{not_told}: the training rows cannot be read again."
    return known, "Known: training rows came from the question's seed article, in other words; new: none did."


def _is_small(source: Source) -> bool:
    return source.revision is None and source.bytes <= BYTES_TO_PREPARE
