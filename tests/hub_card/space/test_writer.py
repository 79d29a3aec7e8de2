"""Writing as it goes: the same text as `generate`, one text at a time, and an end when it is told."""

import threading
from itertools import pairwise

import pytest
import torch

from hub_card.space.chat.prompt import build_prompt
from hub_card.space.chat.writer import Writer
from tests.hub_card.space.conftest import KNOWN


GREEDY = {"do_sample": False, "max_new_tokens": 40}
WARM = {"do_sample": True, "temperature": 1.5, "top_p": 1.0, "top_k": 0, "max_new_tokens": 12, "seed": 3}


def prompt_of(writer: Writer, question: str) -> list[int]:
    return build_prompt(writer.tokenizer, question, [], writer.context, 1)


def last_text(writer: Writer, question: str, options: dict) -> str:
    *_, (text, _) = writer.write(prompt_of(writer, question), **options)
    return text


def wait_for_writers() -> None:
    for thread in threading.enumerate():
        if thread.name == "writer":
            thread.join(60)
            assert not thread.is_alive()


def test_it_writes_what_generate_writes_word_by_word(writer):
    prompt = prompt_of(writer, "Who wrote Emma?")
    *growing, (last, ended) = writer.write(prompt, **GREEDY)
    output = writer.model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False, pad_token_id=50256)
    text = writer.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True)
    assert text == KNOWN.partition("\n\n")[2]
    assert (last, ended) == (text, True)
    assert len(set(growing)) > 8
    assert all(text.startswith(part) and not over for part, over in growing)


def test_the_limit_ends_a_text_that_does_not_end(writer):
    *_, (text, ended) = writer.write(prompt_of(writer, "Count."), **GREEDY | {"max_new_tokens": 7})
    assert not ended
    assert len(writer.tokenizer(text)["input_ids"]) == 7


def test_the_context_ends_it_too(writer):
    short = Writer(writer.model, writer.tokenizer, context=20)
    prompt = prompt_of(writer, "Count.")
    *_, (text, _) = short.write(prompt, **GREEDY | {"max_new_tokens": 500})
    assert len(writer.tokenizer(text)["input_ids"]) == 20 - len(prompt)


def test_a_seed_draws_the_same_again(writer):
    assert last_text(writer, "x", WARM) == last_text(writer, "x", WARM)
    assert last_text(writer, "x", WARM) != last_text(writer, "x", {**WARM, "seed": 4})
    unseeded = {**WARM, "seed": -1}
    assert last_text(writer, "x", unseeded) != last_text(writer, "x", unseeded)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.1}, {"top_k": 1}, {"top_p": 0.05}, {"repetition_penalty": 2.0}, {"max_new_tokens": 3}]
)
def test_every_setting_changes_the_text(writer, changes):
    changed = {**WARM, **changes}
    assert last_text(writer, "Who wrote Emma?", changed) != last_text(writer, "Who wrote Emma?", WARM)


def test_closing_stops_the_model(writer, monkeypatch):
    steps, closed = [], threading.Event()
    forward = writer.model.forward

    def step(*args, **options):
        steps.append(1)
        if len(steps) == 3:
            assert closed.wait(60)
        return forward(*args, **options)

    monkeypatch.setattr(writer.model, "forward", step)
    texts = writer.write(prompt_of(writer, "Count."), **GREEDY | {"max_new_tokens": 900})
    next(texts)
    texts.close()
    closed.set()
    wait_for_writers()
    assert len(steps) <= 3  # it would go to 900


def test_two_texts_are_not_written_at_once(writer, monkeypatch):
    together = []
    forward = writer.model.forward

    def notice(*args, **options):
        together.append(threading.current_thread())
        return forward(*args, **options)

    monkeypatch.setattr(writer.model, "forward", notice)
    prompt = prompt_of(writer, "Count.")
    first, second = (writer.write(prompt, **GREEDY | {"max_new_tokens": 20}) for _ in range(2))
    next(first)
    next(second)
    assert list(first)[-1] == list(second)[-1]
    switches = sum(one is not other for one, other in pairwise(together))
    assert switches == 1
