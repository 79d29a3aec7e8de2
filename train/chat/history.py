"""A conversation as token ids, in the form that the rows are trained in, as much of it as the context holds."""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from train.data.rows.synth import question_to_ids


@dataclass
class ChatHistory:
    """The turns so far. Their ids are those that the chat template gives, with two differences: the blank line before
    an answer is encoded as in training (see `question_to_ids`), and what the model wrote stays as it was, token by
    token."""

    tokenizer: PreTrainedTokenizerBase
    context_tokens: int  # that conversation and answer may take up together
    system: str = ""  # text before the first question, such as a rag row's sources; empty for none
    opening: str = ""  # of an answer, for a model that was not trained in this form; empty for none
    turns: list[list[int]] = field(default_factory=list)  # question and answer, one list of ids a turn

    def prompt(self, question: str, answer_tokens: int) -> tuple[list[int], int]:
        """The ids to answer, and how many of the oldest turns were dropped to fit them in: turns go until
        `answer_tokens`, or half the context where that is less, are left. A `ValueError` where system text and question
        alone fill the context."""
        system = question_to_ids(self.system, self.tokenizer) if self.system else []
        asked = self._ask(question)
        wanted = min(answer_tokens, self.context_tokens // 2)
        turns = list(self.turns)
        while turns and self.context_tokens - len(system) - sum(map(len, turns)) - len(asked) < wanted:
            turns.pop(0)
        prompt = [*system, *(token for turn in turns for token in turn), *asked]
        if len(prompt) >= self.context_tokens:
            raise ValueError(
                f"The question has {len(prompt):,} tokens, and the context of {self.context_tokens:,} leaves no room "
                "for an answer: shorten it."
            )
        dropped = len(self.turns) - len(turns)
        self.turns = turns
        return prompt, dropped

    def add(self, question: str, answer: list[int]) -> None:
        """Note a turn; the end-of-text token is added where the answer did not get to it."""
        end = self.tokenizer.eos_token_id
        self.turns.append([*self._ask(question), *answer, *([] if answer[-1:] == [end] else [end])])

    def _ask(self, question: str) -> list[int]:
        opening = self.tokenizer(self.opening)["input_ids"] if self.opening else []
        return question_to_ids(f"Q: {question.strip()}", self.tokenizer) + opening
