"""Conversations to token ids, by the tokenizer's chat template; and which of them are the assistant's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from train.post_training.data.conversations import Message


NO_LOSS = -100  # the label that the loss passes over
END = "\0"  # stands for the end-of-text token while a conversation is text; repaired texts hold none


@dataclass(frozen=True)
class EncodedConversation:
    """
    Args:
        turns: for each answer, the tokens up to its beginning and up to its end.
    """

    input_ids: list[int]
    turns: list[tuple[int, int]]

    @property
    def labels(self) -> list[int]:
        """The ids of what the assistant says, the end of text after it included; -100 elsewhere."""
        labels = [NO_LOSS] * len(self.input_ids)
        for begin, end in self.turns:
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    def fitted(self, max_tokens: int) -> "EncodedConversation | None":
        """The turns that fit, from the first on, none of them cut; `None` where not even the first does."""
        turns = [(begin, end) for begin, end in self.turns if end <= max_tokens]
        return EncodedConversation(self.input_ids[: turns[-1][1]], turns) if turns else None


class ConversationEncoder:
    """Encodes as pre-training does: the ids of one question and answer are those of its training text.

    Differs from `apply_chat_template(..., return_assistant_tokens_mask=True)`, which TRL calls, in that the text
    `<|endoftext|>` in a message stays text and cannot end it.

    Args:
        tokenizer: GPT-2's, with a chat template that has `{% generation %}` around what the assistant says, the end of
            text included.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        # GPT-2 writes each byte of a token as one character.
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self._bytes_of_token = np.array([len(token) for token in tokens])

    def encode(self, conversations: Sequence[list[Message]]) -> list[EncodedConversation]:
        """Encode conversations that `row_to_messages` made."""
        if not conversations:
            return []
        rendered, spans = render_jinja_template(
            conversations=list(conversations),
            chat_template=self.tokenizer.chat_template,
            return_assistant_tokens_mask=True,
            eos_token=END,
        )
        texts = [text.split(END)[:-1] for text in rendered]
        flat = [turn for turns in texts for turn in turns]
        ids = iter(self.tokenizer(flat, split_special_tokens=True, verbose=False)["input_ids"])
        return [
            self._join(turns, [next(ids) for _ in turns], answers) for turns, answers in zip(texts, spans, strict=True)
        ]

    def _join(self, texts: list[str], ids: list[list[int]], answers: list[tuple[int, int]]) -> EncodedConversation:
        """The turns of a conversation, each a text up to an end, one behind the other.

        Args:
            answers: where in the whole text each answer begins and ends, in characters.
        """
        input_ids: list[int] = []
        turns = []
        begin = 0
        for text, turn_ids, (answer, end) in zip(texts, ids, answers, strict=True):
            assert end == begin + len(text) + len(END)
            question_bytes = len(text[: answer - begin].encode())
            starts = np.cumsum(self._bytes_of_token[turn_ids]) - self._bytes_of_token[turn_ids]
            # No token reaches over an answer's beginning: GPT-2 never joins a line end with the letter after it.
            question_tokens = int(np.searchsorted(starts, question_bytes))
            assert starts[question_tokens] == question_bytes
            turns.append((len(input_ids) + question_tokens, len(input_ids) + len(turn_ids) + 1))
            input_ids += [*turn_ids, self.tokenizer.eos_token_id]
            begin = end
        return EncodedConversation(input_ids, turns)
