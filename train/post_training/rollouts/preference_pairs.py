"""Pairs of answers to one question, a better and a worse one: from rows that have them, or made from a model's own.

A row has `chosen` and `rejected`, in one of these forms:

- two conversations (lists of messages) that differ in the last message, the assistant's, as in UltraFeedback; a
  `prompt` beside them is not read;
- `prompt` (a text, or messages) and two answers (texts, or lists of one message).

Left out, and counted: what `data.conversations` leaves out; two texts without a prompt; conversations
that differ before the last answer; answers that are the same; what is longer than `--max_length`, which is never cut.

Or a row has a question whose answer can be checked: the model answers it several times over, and a right answer in
the right form is paired with a wrong one. Answers that are the same token by token count once.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids, row_to_question
from train.evaluation.exam.answers import ids_to_answer
from train.post_training.data.conversations import Message, UnusableRowError, row_to_messages
from train.post_training.data.encoding import encode_conversations
from train.post_training.rollouts.verifiable_answers import is_right
from train.run_files import write_whole


TOO_LONG = "longer than --max_length"


@dataclass(frozen=True)
class Pair:
    """
    Args:
        prompt_ids: everything up to the answers.
        chosen_ids, rejected_ids: the answers; each with the end-of-text token, but for a sampled one that never ended.
    """

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    def __post_init__(self) -> None:
        assert self.chosen_ids != self.rejected_ids

    @property
    def tokens(self) -> int:
        """Of the longer text."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


def row_to_pair(row: Row, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Pair:
    """The pair of a row with `chosen` and `rejected`.

    Raises:
        UnusableRowError: by one of the rules above.
    """
    chosen, rejected = (_conversation(row, name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRowError("chosen and rejected differ before the last answer")
    if chosen[-1] == rejected[-1]:
        raise UnusableRowError("chosen and rejected are the same")
    better, worse = encode_conversations([chosen, rejected], tokenizer)
    begin = better.turns[-1][0]
    assert begin == worse.turns[-1][0]
    assert better.input_ids[:begin] == worse.input_ids[:begin]
    pair = Pair(better.input_ids[:begin], better.input_ids[begin:], worse.input_ids[begin:])
    if pair.tokens > max_tokens:
        raise UnusableRowError(TOO_LONG)
    return pair


def _conversation(row: Row, name: str) -> list[Message]:
    answer, prompt = row[name], row.get("prompt")
    if isinstance(answer, list) and len(answer) > 1:
        conversation = {"messages": answer}
    elif prompt is not None:
        conversation = {"prompt": prompt, "completion": answer}
    else:
        raise UnusableRowError("chosen and rejected without a prompt")
    messages, _ = row_to_messages(conversation)
    if len(messages) != len(answer) and "messages" in conversation:
        raise UnusableRowError(f"{name} does not end in an answer")
    return messages


def make_pairs(
    questions: list[Row],
    texts: list[list[list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    pairs_per_question: int,
    seed: int,
) -> Iterator[Pair]:
    """Pair right answers with wrong ones, each answer used once at most, in an order drawn from `seed`.

    Args:
        texts: token ids of the answers to each question.
    """
    rng = random.Random(seed)
    for row, samples in zip(questions, texts, strict=True):
        right, wrong = [], []
        for ids in {tuple(ids): ids for ids in samples}.values():
            answer = ids_to_answer(ids, tokenizer)
            if not is_right(answer.final, row):
                wrong.append(ids)
            elif answer.well_formed:
                right.append(ids)
        rng.shuffle(right)
        rng.shuffle(wrong)
        prompt = question_to_ids(row_to_question(row), tokenizer)
        for chosen, rejected in list(zip(right, wrong, strict=False))[:pairs_per_question]:
            yield Pair(prompt, chosen, rejected)


def write_pairs(file: Path, pairs: dict[str, list[Pair]], tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the pairs of each split, with their texts for the eye; the file appears whole."""
    lines = []
    for split, some in pairs.items():
        for pair in some:
            texts = {name.removesuffix("_ids"): tokenizer.decode(ids) for name, ids in asdict(pair).items()}
            lines.append(json.dumps({"split": split, **texts, **asdict(pair)}, ensure_ascii=False) + "\n")
    write_whole(file, "".join(lines))


def read_pairs(file: Path) -> dict[str, list[Pair]]:
    """What `write_pairs` wrote."""
    pairs: dict[str, list[Pair]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        noted = json.loads(line)
        pairs.setdefault(noted["split"], []).append(
            Pair(noted["prompt_ids"], noted["chosen_ids"], noted["rejected_ids"])
        )
    return pairs
