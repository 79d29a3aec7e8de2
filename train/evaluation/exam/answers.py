"""What a model writes when it is asked: greedily, in batches, shared out among the processes of a distributed run."""

import re
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.data.rows.synth import Row, question_to_ids, row_to_question, text_to_answer


QUESTIONS_PER_BATCH = 64
# What training rows look like after their question: reasoning, where there is one, and one answer.
FORM = re.compile(r"(?:Reasoning:\n(?P<reasoning>\S.*?)\n\n)?A: (?P<answer>\S.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """
    Args:
        text: all that was written after the question, without the end-of-text token.
        ended: whether the model ended the text by itself, within the tokens that it was given.
    """

    text: str
    ended: bool

    @property
    def final(self) -> str:
        """The answer itself, without the reasoning; empty where there is none."""
        return text_to_answer(self.text)

    @property
    def reasoning(self) -> str:
        """What stands under the heading "Reasoning:", empty where there is none."""
        before, mark, _ = f"\n{self.text}".rpartition("\nA: ")
        _, heading, reasoning = (before if mark else self.text).partition("Reasoning:\n")
        return reasoning.strip() if heading else ""

    @property
    def well_formed(self) -> bool:
        """Reasoning or none, then an answer, then the end."""
        return self.ended and FORM.fullmatch(self.text.strip()) is not None


def answer_questions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[Row], max_new_tokens: int
) -> list[Answer]:
    """Ask every question; all processes of a distributed run must call this, and all get all answers.

    Args:
        questions: rows with SYNTH's columns.
        max_new_tokens: length of reasoning and answer together.

    Returns:
        The answers, in order; empty where a question leaves no room in the context for `max_new_tokens`.
    """
    state = PartialState()
    share = questions[state.process_index :: state.num_processes]
    answers = gather_object(_answer_share(model, tokenizer, share, max_new_tokens, show=state.is_main_process))
    # gather_object puts the processes' shares one behind the other
    order = [row for start in range(state.num_processes) for row in range(start, len(questions), state.num_processes)]
    by_number = dict(zip(order, answers, strict=True))
    return [by_number[number] for number in range(len(questions))]


def pad_left(prompts: list[list[int]], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as one batch that ends where they end: `input_ids` and `attention_mask`, both (B, T).

    Done here because GPT-2's tokenizer has no padding token, and giving it one would be saved with the model: trainers
    that ignore padding would then never teach the end of a text.
    """
    length = max(len(prompt) for prompt in prompts)
    input_ids = torch.tensor([[pad_token_id] * (length - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return input_ids, attention_mask


@torch.no_grad()
def _answer_share(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[Row], max_new_tokens: int, show: bool
) -> list[Answer]:
    was_training = model.training
    model.eval()
    prompts = [question_to_ids(row_to_question(row), tokenizer) for row in questions]
    # A question that leaves no room for an answer in the context is not asked: its answer stays empty.
    room = model.config.max_position_embeddings - max_new_tokens
    # Neighbours of like length waste little on padding.
    askable = sorted(
        (number for number, prompt in enumerate(prompts) if len(prompt) <= room), key=lambda n: len(prompts[n])
    )
    answers = [Answer("", False)] * len(questions)
    with tqdm(
        total=len(askable), desc="Exam", unit=" questions", disable=not show or not askable, leave=False
    ) as progress:
        for start in range(0, len(askable), QUESTIONS_PER_BATCH):
            numbers = askable[start : start + QUESTIONS_PER_BATCH]
            input_ids, attention_mask = pad_left([prompts[number] for number in numbers], tokenizer.eos_token_id)
            outputs = model.generate(
                input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
            )
            written = outputs[:, input_ids.shape[1] :]
            texts = tokenizer.batch_decode(written, skip_special_tokens=True)
            ended = (written == tokenizer.eos_token_id).any(dim=1).tolist()
            for number, text, at_end in zip(numbers, texts, ended, strict=True):
                answers[number] = Answer(text, at_end)
            progress.update(len(numbers))
    model.train(was_training)
    return answers
