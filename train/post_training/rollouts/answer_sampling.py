"""Several answers of a model to each question, drawn at random."""

from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids, row_to_question
from train.evaluation.exam.answers import Answer, pad_left


TEXTS_PER_BATCH = 64


@dataclass(frozen=True)
class SampledAnswer:
    """
    Args:
        ids: the tokens that were written, with the end-of-text token where the model got to it.
    """

    ids: list[int]
    answer: Answer


def sample_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    count: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> list[list[SampledAnswer]]:
    """`count` answers to each question; all processes of a distributed run must call this, and all get all answers.

    The random numbers of the run are left as they were.

    Args:
        questions: rows with SYNTH's columns, each of which leaves room for `max_new_tokens`.
        seed: with the number of processes decides what is drawn.
    """
    state = PartialState()
    share = questions[state.process_index :: state.num_processes]
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed + state.process_index)
        mine = _sample_share(model, tokenizer, share, count, temperature, max_new_tokens, show=state.is_main_process)
    model.train(was_training)
    # gather_object puts the processes' shares one behind the other
    order = [row for start in range(state.num_processes) for row in range(start, len(questions), state.num_processes)]
    by_number = dict(zip(order, gather_object(mine), strict=True))
    return [by_number[number] for number in range(len(questions))]


@torch.no_grad()
def _sample_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    count: int,
    temperature: float,
    max_new_tokens: int,
    show: bool,
) -> list[list[SampledAnswer]]:
    prompts = [question_to_ids(row_to_question(row), tokenizer) for row in questions]
    # Neighbours of like length waste little on padding.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    at_once = max(1, TEXTS_PER_BATCH // count)
    answers: list[list[SampledAnswer]] = [[] for _ in questions]
    with tqdm(total=len(order), desc="Sampling", unit=" questions", disable=not show, leave=False) as progress:
        for start in range(0, len(order), at_once):
            numbers = order[start : start + at_once]
            batch = [prompts[number] for number in numbers for _ in range(count)]
            input_ids, attention_mask = pad_left(batch, tokenizer.eos_token_id)
            outputs = model.generate(
                input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                pad_token_id=tokenizer.eos_token_id,
            )
            written = outputs[:, input_ids.shape[1] :].tolist()
            for place, ids in enumerate(written):
                answers[numbers[place // count]].append(_to_answer(ids, tokenizer))
            progress.update(len(numbers))
    return answers


def _to_answer(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> SampledAnswer:
    ended = tokenizer.eos_token_id in ids
    if ended:
        ids = ids[: ids.index(tokenizer.eos_token_id) + 1]
    return SampledAnswer(ids, Answer(tokenizer.decode(ids, skip_special_tokens=True), ended))
