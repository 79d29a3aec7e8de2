"""How good a model is: exact match on questions with short answers, by exercise.

python -m train.evaluation runs/demo --exam sample
"""

import argparse
from collections import Counter
from dataclasses import dataclass

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import modeling_gpt2scratch  # noqa: F401  registers the model with AutoModelForCausalLM
from train.data.shard_access import rows_of
from train.data.sources import SAMPLE, SAMPLE_FOLDER, find_source
from train.data.synth import Row, question_to_ids, reason_to_drop, row_to_question, text_to_answer


QUESTIONS_PER_BATCH = 64


@dataclass(frozen=True)
class ExamResult:
    """Marks of one exercise.

    Args:
        exercise: SYNTH's name of it, followed by ", known" or ", new" where the seeds of the training rows are given: a
            known question asks, in other words, for something that training rows said; a new one does not.
        correct: answers equal to the expected text.
        asked: questions.
        chance: the share that the best guess would get without reading the questions.
    """

    exercise: str
    correct: int
    asked: int
    chance: float

    @property
    def exact_match(self) -> float:
        return self.correct / self.asked


def load_exam(exam: str) -> list[Row]:
    """The questions of `--exam`: "sample", or a file of rows with SYNTH's columns; unusable rows are left out.

    Raises:
        ValueError: no such file, or no usable question in it.
    """
    source = find_source(str(SAMPLE_FOLDER / "exam.parquet") if exam == SAMPLE else exam)
    rows = [row for row in rows_of(source) if reason_to_drop(row) is None]
    if not rows:
        raise ValueError(f"--exam {exam} holds no usable question.")
    return rows


def take_exam(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Row],
    max_new_tokens: int,
    known: list[bool] | None = None,
) -> list[ExamResult]:
    """Ask every question, greedily, and compare the answers with the expected ones, to the letter.

    The questions are shared out among the processes of a distributed run; all of them must call this.

    Args:
        questions: rows with SYNTH's columns.
        max_new_tokens: length of reasoning and answer together; a text cut off before its answer is wrong.
        known: for each question, whether training rows came from its seed article.

    Returns:
        The marks by exercise, in alphabetical order.
    """
    state = PartialState()
    share = questions[state.process_index :: state.num_processes]
    answers = gather_object(_answer_all(model, tokenizer, share, max_new_tokens, show=state.is_main_process))
    # gather_object puts the processes' shares one behind the other
    order = [row for start in range(state.num_processes) for row in range(start, len(questions), state.num_processes)]
    return mark_answers(questions, dict(zip(order, answers, strict=True)), known)


def mark_answers(questions: list[Row], answers: dict[int, str], known: list[bool] | None) -> list[ExamResult]:
    """Count the answers (by question number) that equal the expected text, by exercise."""
    correct: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    expected_by_exercise: dict[str, Counter[str]] = {}
    for number, question in enumerate(questions):
        exercise = question["exercise"]
        if known is not None:
            exercise += ", known" if known[number] else ", new"
        expected = question["synthetic_answer"].strip()
        asked[exercise] += 1
        correct[exercise] += answers[number] == expected
        expected_by_exercise.setdefault(exercise, Counter())[expected] += 1
    return [
        # The best that can be had without reading the question: always giving the answer that is right most often.
        ExamResult(name, correct[name], asked[name], max(expected_by_exercise[name].values()) / asked[name])
        for name in sorted(asked)
    ]


def render_exam(results: list[ExamResult], before: list[ExamResult] | None = None) -> str:
    """The marks as a table; with those of `before`, as before and after."""
    earlier = {result.exercise: result for result in before or []}
    title = f"{'exact match':<28}{'n':>6}{'chance':>9}"
    lines = [title + (f"{'before':>9}{'after':>9}" if before else f"{'score':>9}")]
    for result in results:
        line = f"{result.exercise:<28}{result.asked:>6}{result.chance:>9.1%}"
        if before:
            line += f"{earlier[result.exercise].exact_match:>9.1%}"
        lines.append(line + f"{result.exact_match:>9.1%}")
    return "\n".join(lines)


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
def _answer_all(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[Row], max_new_tokens: int, show: bool
) -> list[str]:
    """The model's answers, in order."""
    was_training = model.training
    model.eval()
    prompts = [question_to_ids(row_to_question(row), tokenizer) for row in questions]
    # A question that leaves no room for an answer in the context is not asked: its answer stays empty.
    room = model.config.max_position_embeddings - max_new_tokens
    # Neighbours of like length waste little on padding.
    askable = sorted(
        (number for number, prompt in enumerate(prompts) if len(prompt) <= room), key=lambda n: len(prompts[n])
    )
    answers = [""] * len(questions)
    with tqdm(total=len(askable), desc="Exam", unit=" questions", disable=not show, leave=False) as progress:
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
            written = tokenizer.batch_decode(outputs[:, input_ids.shape[1] :], skip_special_tokens=True)
            for number, text in zip(numbers, written, strict=True):
                answers[number] = text_to_answer(text)
            progress.update(len(numbers))
    model.train(was_training)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder, a checkpoint, or a Hub id")
    parser.add_argument(
        "--exam", default=SAMPLE, help="'sample', or a .parquet or .jsonl file of rows (default: sample)"
    )
    parser.add_argument("--exam_tokens", type=int, default=64, help="tokens of an answer, at most (default: 64)")
    arguments = parser.parse_args()
    questions = load_exam(arguments.exam)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model)
    print(render_exam(take_exam(model, tokenizer, questions, arguments.exam_tokens)))


if __name__ == "__main__":
    main()
