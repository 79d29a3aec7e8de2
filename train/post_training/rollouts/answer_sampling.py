"""Which questions a model can learn from by having its own answers checked."""

import logging

from transformers import PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids, repair, row_to_question
from train.errors import RunRefusedError
from train.evaluation.exam.answers import ids_to_answer
from train.post_training.data.data import RowStatistics
from train.post_training.rollouts.verifiable_answers import is_right, why_not_verifiable


logger = logging.getLogger(__name__)


def verifiable_rows(
    rows: list[Row], split: str, tokenizer: PreTrainedTokenizerBase, room: int, statistics: RowStatistics
) -> list[Row]:
    """The rows whose answer can be checked and whose question has `room` tokens at most, their texts repaired;
    the others are counted.

    Raises:
        RunRefusedError: there are none.
    """
    kept = []
    for given in rows:
        row = dict(given)
        repair(row)  # what it changes was counted when the row was chosen
        reason = why_not_verifiable(row)
        if reason is None and len(question_to_ids(row_to_question(row), tokenizer)) > room:
            reason = "question leaves no room in the context for an answer"
        if reason is None:
            kept.append(row)
        else:
            statistics.drop_after_all(given, split, reason)
    if not kept:
        raise RunRefusedError(
            f"No question of the {split} rows has an answer that can be checked: see "
            f"train/post_training/rollouts/verifiable_answers.py for which have.\n{statistics.render()}"
        )
    return kept


def refuse_all_alike(
    texts: list[list[list[int]]], questions: list[Row], tokenizer: PreTrainedTokenizerBase, count_name: str
) -> None:
    """Refuse to learn from answers that are, for every question, all right or all wrong.

    Raises:
        RunRefusedError: with the counts and what to do.
    """
    right = [
        [is_right(ids_to_answer(ids, tokenizer).final, row) for ids in samples]
        for samples, row in zip(texts, questions, strict=True)
    ]
    mixed = sum(any(marks) and not all(marks) for marks in right)
    share = sum(map(sum, right)) / sum(map(len, right))
    logger.info(
        "Of %d answers to each of %d questions, %.1f%% are right; %d questions have both right and wrong ones.",
        *(len(right[0]), len(right), 100 * share, mixed),
    )
    if not mixed:
        raise RunRefusedError(
            f"{len(right[0])} answers to each of {len(right)} questions were sampled, and for none of the questions "
            f"are some right and some wrong ({share:.1%} are right): there is nothing to tell apart. "
            f"Take easier or harder questions, another --init_from, or more {count_name}."
        )
