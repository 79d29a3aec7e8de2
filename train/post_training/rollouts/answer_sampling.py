"""Several answers of the model to each question, drawn at random."""

import logging

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids
from train.errors import RunRefusedError
from train.evaluation.exam.answers import ids_to_answer
from train.evaluation.generation import write_texts
from train.post_training.rollouts.verifiable_answers import is_right


logger = logging.getLogger(__name__)


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    *,
    samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    samples_name: str,
) -> list[list[list[int]]]:
    """The token ids of `samples` answers to each question; all processes of a distributed run must call this.

    Args:
        samples_name: the setting that they come from.

    Raises:
        RunRefusedError: the answers to each question are all right or all wrong, and so teach nothing.
    """
    prompts = [question_to_ids(question["prompt"], tokenizer) for question in questions]
    texts = write_texts(
        model,
        prompts,
        max_new_tokens=max_new_tokens,
        end_of_text=tokenizer.eos_token_id,
        title="Sampling",
        samples=samples,
        temperature=temperature,
        seed=seed,
    )
    right = [
        [is_right(ids_to_answer(ids, tokenizer).final, question) for ids in some]
        for some, question in zip(texts, questions, strict=True)
    ]
    mixed = sum(any(marks) and not all(marks) for marks in right)
    share = sum(map(sum, right)) / (samples * len(questions))
    logger.info(
        "Of %d answers to each of %d questions, %.1f%% are right; %d questions have both right and wrong ones.",
        *(samples, len(questions), 100 * share, mixed),
    )
    if not mixed:
        raise RunRefusedError(
            f"{samples} answers to each of {len(questions)} questions were sampled, and for none of the questions are "
            f"some right and some wrong ({share:.1%} are right): there is nothing to tell apart. Take easier or harder "
            f"questions, another --init_from, or more {samples_name}."
        )
    return texts
