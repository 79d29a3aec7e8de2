"""Preference pairs of a model's own answers: to a question, a right answer in the right form, and a wrong one."""

import logging
import random
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids
from train.errors import RunRefusedError
from train.evaluation.exam.answers import ids_to_answer
from train.post_training.rollouts.answer_sampling import sample_answers
from train.post_training.rollouts.verifiable_answers import is_right
from train.run_files import PAIRS_FILE, read_json_lines, to_json_line, write_whole


logger = logging.getLogger(__name__)

Pair = dict[str, list[int]]
IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def find_pairs(
    run_folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: dict[str, Dataset],
    *,
    is_resumed: bool,
    writes: bool,
    pairs_per_question: int,
    seed: int,
    **sampling,
) -> dict[str, Dataset]:
    """Pairs of the model's own answers to the questions of each split; kept in the run folder for a resumed run.

    `sampling` is handed to `sample_answers`.

    Raises:
        RunRefusedError: the answers give no pair, or the pairs of the run that is resumed are gone.
    """
    file = run_folder / PAIRS_FILE
    if is_resumed:
        if not file.is_file():
            raise RunRefusedError(f"{file} is gone: without the pairs that were made the run cannot go on.")
        pairs = read_pairs(file)
    else:
        pairs = {}
        for split, dataset in questions.items():
            rows = dataset.to_list()
            answers = sample_answers(model, tokenizer, rows, seed=seed, samples_name="--pair_samples", **sampling)
            pairs[split] = list(make_pairs(rows, answers, tokenizer, pairs_per_question, seed))
            if not pairs[split]:
                raise RunRefusedError(
                    f"No right answer in the right form could be paired with a wrong one for {split}."
                )
        if writes:
            write_pairs(file, pairs, tokenizer)
            logger.info("%d pairs to train on and %d to evaluate on: %s", *map(len, pairs.values()), file)
    return {split: Dataset.from_list(some) for split, some in pairs.items()}


def make_pairs(
    questions: list[Row],
    answers: list[list[list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    pairs_per_question: int,
    seed: int,
) -> Iterator[Pair]:
    """Pair right answers with wrong ones, each answer (the same token ids) once at most, in an order from `seed`."""
    rng = random.Random(seed)
    for question, some in zip(questions, answers, strict=True):
        right, wrong = [], []
        for ids in dict.fromkeys(map(tuple, some)):
            answer = ids_to_answer(list(ids), tokenizer)
            if not is_right(answer.final, question):
                wrong.append(list(ids))
            elif answer.well_formed:
                right.append(list(ids))
        rng.shuffle(right)
        rng.shuffle(wrong)
        prompt = question_to_ids(question["prompt"], tokenizer)
        for chosen, rejected in list(zip(right, wrong, strict=False))[:pairs_per_question]:
            yield dict(zip(IDS, (prompt, chosen, rejected), strict=True))


def write_pairs(file: Path, pairs: dict[str, list[Pair]], tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the pairs of each split, with their texts for the eye; the file appears whole."""
    lines = []
    for split, some in pairs.items():
        for pair in some:
            texts = {name.removesuffix("_ids"): tokenizer.decode(ids) for name, ids in pair.items()}
            lines.append(to_json_line({"split": split, **texts, **pair}))
    write_whole(file, "".join(lines))


def read_pairs(file: Path) -> dict[str, list[Pair]]:
    pairs: dict[str, list[Pair]] = {}
    for noted in read_json_lines(file):
        pairs.setdefault(noted["split"], []).append({name: noted[name] for name in IDS})
    return pairs
