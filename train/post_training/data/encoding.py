"""Conversations to token ids, by the tokenizer's chat template, and which of them the assistant says."""

from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from train.data.rows.conversations import Message


NO_LOSS = -100  # the label that the loss ignores
# Stands for the end-of-text token while a conversation is text. Repaired texts hold none, and no token of GPT-2 has it
# beside another character.
END = "\0"


@dataclass(frozen=True)
class EncodedConversation:
    input_ids: list[int]
    turns: list[tuple[int, int]]  # for each answer, the number of tokens before it, and up to its end

    @property
    def labels(self) -> list[int]:
        """The ids of what the assistant says, with the end of text after it; -100 elsewhere."""
        labels = [NO_LOSS] * len(self.input_ids)
        for begin, end in self.turns:
            labels[begin:end] = self.input_ids[begin:end]
        return labels

    def fitted(self, max_tokens: int) -> "EncodedConversation | None":
        """The first turns that fit, none of them cut; `None` where not even the first fits."""
        turns = [(begin, end) for begin, end in self.turns if end <= max_tokens]
        return EncodedConversation(self.input_ids[: turns[-1][1]], turns) if turns else None


def encode_conversations(
    conversations: list[list[Message]], tokenizer: PreTrainedTokenizerBase
) -> list[EncodedConversation]:
    """Encode as pre-training does: the ids of one question and answer are those of its training text.

    Differs from TRL's use of the chat template in that the text `<|endoftext|>` in a message stays text. The template
    must have `{% generation %}` around what the assistant says, the end of text included.
    """
    if not conversations:
        return []
    encoded = tokenizer.apply_chat_template(
        conversations,
        return_dict=True,
        return_assistant_tokens_mask=True,
        eos_token=END,
        tokenizer_kwargs={"split_special_tokens": True, "verbose": False},
    )
    end_id = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(END))[0]
    return [
        _find_turns(ids, is_answer, end_id, tokenizer.eos_token_id)
        for ids, is_answer in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    ]


def _find_turns(ids: list[int], is_answer: list[int], end_id: int, end_of_text: int) -> EncodedConversation:
    ends = [number for number, token in enumerate(ids, 1) if token == end_id]
    turns = [(is_answer.index(1, begin), end) for begin, end in pairwise([0, *ends])]
    return EncodedConversation([end_of_text if token == end_id else token for token in ids], turns)
