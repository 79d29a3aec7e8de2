"""Compares a written graph with its model, on texts that the model writes greedily after questions of the exam.

A graph for which each token of such a text is the likeliest would write the same text. It reads the question first, and
the text after it, so that its cache is used.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PreTrainedConfig

from train.evaluation.exam.answers import questions_to_prompts
from train.evaluation.exam.questions import load_exam
from train.evaluation.generation import write_texts
from train.evaluation.losses.validation_rows import draw_rows
from train.evaluation.opened_model import OpenedModel


SAMPLE_EXAM = "sample"
MOST_TOKENS = 64  # of a text, where the recipe does not say
Arrays = dict[str, np.ndarray]


def open_onnx(file: Path) -> Callable[[Arrays], Arrays]:
    """The graph as a function from inputs to outputs, by their names."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def open_openvino(file: Path) -> Callable[[Arrays], Arrays]:
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: {output.get_any_name(): value for output, value in compiled(inputs).items()}


def write_answers(opened: OpenedModel, max_questions: int) -> list[tuple[list[int], list[int]]]:
    """Ids of questions, cut to fit, and of the model's answers: of the recipe's exam, or else of the sample's."""
    trained_on = opened.trained_on
    try:
        questions = load_exam((trained_on and trained_on.exam) or SAMPLE_EXAM)
    except (ValueError, OSError):  # rows that are not here
        questions = load_exam(SAMPLE_EXAM)
    longest = min((trained_on and trained_on.exam_tokens) or MOST_TOKENS, opened.window // 2)
    prompts = questions_to_prompts(draw_rows(questions, max_questions), opened.tokenizer)
    prompts = [prompt[: opened.window - longest] for prompt in prompts]
    end = opened.tokenizer.eos_token_id
    texts = write_texts(opened.model, prompts, max_new_tokens=longest, end_of_text=end, title="Exam")
    return [(prompt, text) for prompt, (text,) in zip(prompts, texts, strict=True)]


def count_same(
    graph: Callable[[Arrays], Arrays], config: PreTrainedConfig, answers: list[tuple[list[int], list[int]]]
) -> tuple[int, int]:
    """The answers and the tokens that a graph writes, too."""
    same = [
        [found == token for found, token in zip(_find_likeliest(graph, config, *answer), answer[1], strict=True)]
        for answer in answers
    ]
    return sum(map(all, same)), sum(map(sum, same))


def _find_likeliest(
    graph: Callable[[Arrays], Arrays], config: PreTrainedConfig, prompt: list[int], text: list[int]
) -> list[int]:
    """The likeliest token in place of each token of a text."""
    empty = np.zeros((1, config.n_head, 0, config.n_embd // config.n_head), np.float32)
    cache = {f"past_key_values.{n}.{part}": empty for n in range(config.n_layer) for part in ("key", "value")}
    found: list[int] = []
    for start, ids in ((0, prompt), (len(prompt), text[:-1])):
        if ids:
            places = np.arange(start, start + len(ids))[None]
            mask = np.ones((1, start + len(ids)), np.int64)
            outputs = graph({"input_ids": np.array([ids]), "attention_mask": mask, "position_ids": places, **cache})
            likeliest = outputs.pop("logits")[0].argmax(-1).tolist()
            found += likeliest if start else likeliest[-1:]
            cache = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
    return found
