"""Usable rows to what a method trains on, under the names of TRL's columns.

- sft: `input_ids` and `labels`, -100 where there is no loss.
- dpo, from rows with `chosen` and `rejected`: `prompt_ids`, `chosen_ids` and `rejected_ids`.
- grpo, and dpo from a model's own answers: `prompt`, a question as text, and what its answer is verified by.

`chosen` and `rejected` have one of these forms:

- two conversations (lists of messages) that differ in the last message, the assistant's, as in UltraFeedback; a
  `prompt` beside them is not read;
- two answers (texts, or lists of one message) to a `prompt` (a text, or messages).
"""

from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from train.data.rows.conversations import Message, UnusableRowError, row_to_messages
from train.data.rows.synth import Row, question_to_ids, repair, row_to_question
from train.post_training.data.encoding import encode_conversations
from train.post_training.data.usable_rows import UsableRow
from train.post_training.rollouts.verifiable_answers import why_not_verifiable


Example = dict[str, Any]

VERIFIED_BY = ("exercise", "query", "synthetic_answer")
TOO_LONG = "longer than --max_length"


def make_examples(
    rows: list[UsableRow], method: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int, answer_tokens: int
) -> Iterator[Example | str]:
    """For each row its example, or in words why there is none (limits are those of a `RowPreparation`)."""
    conversations = encode_conversations([one.messages for one in rows], tokenizer) if method == "sft" else []
    for number, one in enumerate(rows):
        try:
            if method == "sft":
                fitted = conversations[number].fitted(max_tokens)
                if fitted is None:
                    raise UnusableRowError(TOO_LONG)
                if fitted != conversations[number]:
                    one.changes.append("turns beyond --max_length left off")
                yield {"input_ids": fitted.input_ids, "labels": fitted.labels}
            elif one.messages:
                yield question_example(one.row, tokenizer, max_tokens - answer_tokens)
            else:
                yield pair_example(one.row, tokenizer, max_tokens)
        except UnusableRowError as error:
            yield str(error)


def question_example(row: Row, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Example:
    """A question of SYNTH's whose answer a machine can verify."""
    row = dict(row)
    repair(row)  # what it changes was counted when the row was judged
    reason = why_not_verifiable(row)
    if reason is not None:
        raise UnusableRowError(reason)
    question = row_to_question(row)
    if len(question_to_ids(question, tokenizer)) > max_tokens:
        raise UnusableRowError("question leaves no room in the context for an answer")
    return {"prompt": question, **{name: row[name] for name in VERIFIED_BY}}


def pair_example(row: Row, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> Example:
    """The tokens of the question and of both answers, each with the end of text; never cut."""
    chosen, rejected = (_conversation(row, name) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise UnusableRowError("chosen and rejected differ before the last answer")
    if chosen[-1] == rejected[-1]:
        raise UnusableRowError("chosen and rejected are the same")
    better, worse = encode_conversations([chosen, rejected], tokenizer)
    begin = better.turns[-1][0]
    assert better.input_ids[:begin] == worse.input_ids[: worse.turns[-1][0]]
    if max(len(better.input_ids), len(worse.input_ids)) > max_tokens:
        raise UnusableRowError(TOO_LONG)
    return {
        "prompt_ids": better.input_ids[:begin],
        "chosen_ids": better.input_ids[begin:],
        "rejected_ids": worse.input_ids[begin:],
    }


def _conversation(row: Row, name: str) -> list[Message]:
    answer, prompt = row[name], row.get("prompt")
    if isinstance(answer, list) and len(answer) > 1:
        messages, _ = row_to_messages({"messages": answer})
        if len(messages) != len(answer):
            raise UnusableRowError(f"{name} does not end in an answer")
        return messages
    if prompt is None:
        raise UnusableRowError("chosen and rejected without a prompt")
    return row_to_messages({"prompt": prompt, "completion": answer})[0]
