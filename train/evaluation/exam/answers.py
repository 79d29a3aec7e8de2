"""The answers that a model gives to questions."""

import re
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids, row_to_question, split_answer
from train.evaluation.generation import write_texts


# Training rows after their question: reasoning or none, and one answer
FORM = re.compile(r"(?:Reasoning:\n(?P<reasoning>\S.*?)\n\n)?A: (?P<answer>\S.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    text: str  # all that was written after the question, without the end-of-text token
    ended: bool  # whether the model ended the text by itself, within the tokens that it was given

    @property
    def cut_in_reasoning(self) -> bool:
        """Whether the tokens ran out before the reasoning ended; a line `A: ` within it is no answer."""
        return not self.ended and self.text.startswith("Reasoning:\n") and "\n\nA: " not in self.text

    @property
    def final(self) -> str:
        """The answer without the reasoning."""
        return "" if self.cut_in_reasoning else split_answer(self.text)[1].strip()

    @property
    def reasoning(self) -> str:
        return split_answer(self.text)[0].removesuffix("A: ").partition("Reasoning:\n")[2].strip()

    @property
    def well_formed(self) -> bool:
        return self.ended and FORM.fullmatch(self.text.strip()) is not None


def questions_to_prompts(questions: list[Row], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return [question_to_ids(row_to_question(row), tokenizer) for row in questions]


def answer_questions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    max_new_tokens: int,
    window: int | None = None,
) -> list[Answer]:
    """Ask every question, greedily; all processes of a distributed run must call this, and all get all answers, in
    order. Question and answer have `window` tokens together, or the context where unset; an answer is empty where a
    question fills them, or leaves no room in the context for `max_new_tokens`."""
    prompts = questions_to_prompts(questions, tokenizer)
    context = model.config.max_position_embeddings
    window = window or context
    room = min(context - max_new_tokens, window - 1)
    askable = [prompt for prompt in prompts if len(prompt) <= room]
    end_of_text = tokenizer.eos_token_id
    texts = iter(write_texts(model, askable, max_new_tokens=max_new_tokens, end_of_text=end_of_text, title="Exam"))
    return [
        ids_to_answer(next(texts)[0][: window - len(prompt)], tokenizer) if len(prompt) <= room else Answer("", False)
        for prompt in prompts
    ]


def ids_to_answer(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> Answer:
    return Answer(tokenizer.decode(ids, skip_special_tokens=True), tokenizer.eos_token_id in ids)
