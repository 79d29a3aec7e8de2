from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train.evaluation.exam.answers import Answer, answer_questions
from train.evaluation.exam.exam import mark_answers, name_exercises, take_exam


def marks(exercise: str, **counts) -> dict:
    return {"exercise": exercise, **counts}


def test_answers_are_marked_to_the_letter_by_exercise_and_by_what_was_taught(row):
    questions = [
        row(0, exercise="mcq", synthetic_answer="A"),
        row(1, exercise="mcq", synthetic_answer="B"),
        row(2, exercise="mcq", synthetic_answer="B"),
        row(3, exercise="editing", synthetic_answer="Fine."),
    ]
    answers = [Answer(f"A: {text}", text != "b") for text in ("A", "b", "B", "Fine")]
    assert mark_answers(name_exercises(questions, None), questions, answers) == [
        marks("editing", correct=0, asked=1, chance=1.0, well_formed=1, ended=1, cut_in_reasoning=0),
        marks("mcq", correct=2, asked=3, chance=2 / 3, well_formed=2, ended=2, cut_in_reasoning=0),
    ]
    assert mark_answers(name_exercises(questions, [True, False, True, True]), questions, answers) == [
        marks("editing, known", correct=0, asked=1, chance=1.0, well_formed=1, ended=1, cut_in_reasoning=0),
        marks("mcq, known", correct=2, asked=2, chance=0.5, well_formed=2, ended=2, cut_in_reasoning=0),
        marks("mcq, new", correct=0, asked=1, chance=1.0, well_formed=0, ended=0, cut_in_reasoning=0),
    ]


@pytest.mark.parametrize(
    ("text", "ended", "well_formed"),
    [
        ("Reasoning:\nOne more.\n\nA: 6", True, True),
        ("A: 6", True, True),
        ("A: 6", False, False),  # cut off
        ("Reasoning:\nOne more.", True, False),  # no answer
        ("Reasoning:\n\n\nA: 6", True, False),  # nothing under the heading
        ("6", True, False),
        ("A: ", True, False),
    ],
)
def test_the_form_is_reasoning_or_none_then_an_answer_then_the_end(text, ended, well_formed):
    assert Answer(text, ended).well_formed == well_formed


@pytest.mark.parametrize(
    ("text", "ended", "final", "cut"),
    [
        ("Reasoning:\nTry:\nA: 6", False, "", True),  # a line of the reasoning, not the answer
        ("Reasoning:\nTry", False, "", True),
        ("Reasoning:\nTry", True, "", False),
        ("Reasoning:\nTry:\nA: 5\n\nA: 6", False, "6", False),
        ("A: 6", False, "6", False),
    ],
)
def test_a_text_cut_inside_its_reasoning_has_no_answer_and_is_counted(row, text, ended, final, cut):
    answer = Answer(text, ended)
    assert (answer.final, answer.cut_in_reasoning) == (final, cut)
    (mark,) = mark_answers(["mcq"], [row(0, synthetic_answer="6")], [answer])
    assert (mark["correct"], mark["cut_in_reasoning"]) == (int(final == "6"), int(cut))


class Parrot(nn.Module):
    """Stands in for a model that writes the same text whatever it is asked."""

    is_distributed_loading_by_transformers = False  # no shards

    def __init__(self, text_ids: list[int], context: int = 64):
        super().__init__()
        self.text_ids, self.device = text_ids, torch.device("cpu")
        self.config = SimpleNamespace(max_position_embeddings=context)

    def generate(self, input_ids, max_new_tokens, **_):
        written = torch.tensor([self.text_ids[:max_new_tokens]] * len(input_ids))
        return torch.cat([input_ids, written], dim=1)


def test_the_answer_is_read_from_what_the_model_writes(tokenizer, row):
    questions = [row(number, synthetic_answer="6") for number in range(3)] + [row(9, synthetic_answer="7")]
    parrot = Parrot(tokenizer("Reasoning:\nOne more.\n\nA: 6<|endoftext|>")["input_ids"])
    (result,) = take_exam(parrot, tokenizer, questions, max_new_tokens=32)
    assert (result["correct"], result["asked"]) == (3, 4)


def test_a_question_that_does_not_fit_the_context_counts_as_wrong(tokenizer, row):
    questions = [row(0, query="why " * 60, synthetic_answer="6"), row(1, synthetic_answer="6")]
    parrot = Parrot(tokenizer("A: 6<|endoftext|>")["input_ids"], context=64)
    (result,) = take_exam(parrot, tokenizer, questions, max_new_tokens=32)
    assert (result["correct"], result["asked"]) == (1, 2)


def test_an_answer_is_cut_off_where_the_trained_positions_end(tokenizer, row):
    question = row(1, synthetic_answer="6")
    parrot = Parrot(tokenizer("A: 6<|endoftext|>")["input_ids"], context=64)
    prompt = 8  # tokens of the question
    (whole,) = answer_questions(parrot, tokenizer, [question], 8, window=prompt + 4)
    (cut,) = answer_questions(parrot, tokenizer, [question], 8, window=prompt + 3)
    (none,) = answer_questions(parrot, tokenizer, [question], 8, window=prompt)
    assert (whole.ended, cut.ended, none) == (True, False, Answer("", False))
