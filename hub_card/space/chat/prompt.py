"""Questions as token ids, in the form that the model was trained on.

    Q: {question}

    Reasoning:
    {reasoning}

    A: {answer}<|endoftext|>

Not by the tokenizer's chat template: it would read the text `<|endoftext|>` in a question as the end of a document, and
it asks for reasoning where a model may answer without. The ids are otherwise those of its conversations.
"""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Turn:
    """A question that was answered before; the reasoning is empty where there was none."""

    question: str
    reasoning: str
    answer: str


@dataclass(frozen=True)
class Prompt:
    """
    Args:
        ids: what the model goes on from.
        forgotten_turns: earlier turns that did not fit; the oldest go first.
    """

    ids: list[int]
    forgotten_turns: int


def build_prompt(
    tokenizer: PreTrainedTokenizerBase, question: str, turns: list[Turn], context: int, reply_tokens: int
) -> Prompt:
    """The question, and as many of the turns before it as leave room for the reply.

    Args:
        turns: oldest first.
        context: tokens that the model sees, prompt and reply together.
        reply_tokens: room to keep for the reply. Half the context at most is kept free of earlier turns, and a question
            that needs more than the rest is asked all the same: the reply is then cut where the context is full.

    Raises:
        ValueError: there is no question, or it alone fills the context.
    """
    if not question.strip():
        raise ValueError("Please write a question first.")
    ids = question_to_ids(tokenizer, question)
    if len(ids) >= context:
        raise ValueError(
            f"This question takes {len(ids):,} tokens, but the model sees {context:,} at most, question and answer "
            "together. Please shorten it."
        )
    room = context - min(reply_tokens, context // 2)
    kept = 0
    for turn in reversed(turns):
        longer = turn_to_ids(tokenizer, turn) + ids
        if len(longer) > room:
            break
        ids, kept = longer, kept + 1
    return Prompt(ids, len(turns) - kept)


def question_to_ids(tokenizer: PreTrainedTokenizerBase, question: str) -> list[int]:
    """Ids of the question with the blank line after it, as they stand before an answer.

    GPT-2 encodes a blank line at the end of a string as one token and before more text as two, so more text is put
    there and taken away again.
    """
    continuation = "A"
    ids = _encode(tokenizer, f"Q: {_clean(question)}\n\n{continuation}")
    assert tokenizer.decode(ids[-1:]) == continuation
    return ids[:-1]


def turn_to_ids(tokenizer: PreTrainedTokenizerBase, turn: Turn) -> list[int]:
    reasoning = f"Reasoning:\n{turn.reasoning}\n\n" if turn.reasoning else ""
    text = f"Q: {_clean(turn.question)}\n\n{reasoning}A: {turn.answer}"
    return [*_encode(tokenizer, text), tokenizer.eos_token_id]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]


def _clean(question: str) -> str:
    """As in training: no space around it, LF line ends; and no halves of surrogate pairs, which have no UTF-8."""
    return question.strip().replace("\r\n", "\n").encode(errors="replace").decode()
