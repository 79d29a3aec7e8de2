"""The answers of the page on this machine: reasoning apart from the answer, and a word where a visitor would wonder."""

from dataclasses import replace

import gradio as gr
import pytest
import torch

from hub_card.space.local_page import Chat, build_inputs, plain_chatbot
from hub_card.space.model_choice import choose_model
from tests.hub_card.space.conftest import KNOWN


THOUGHT = {"role": "assistant", "content": "Emma is a novel by Austen.", "metadata": {"title": "Reasoning"}}
ANSWER = {"role": "assistant", "content": "Jane Austen"}
WARM = {"do_sample": True, "temperature": 1.5, "top_p": 1.0, "top_k": 0}


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """The notices that the page shows."""
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", told.append)
    return told


@pytest.fixture
def short(model_folder) -> Chat:
    return Chat(replace(choose_model(str(model_folder)), context=16))


def ask(chat: Chat, question: str, *, before: tuple = (), remember: bool = False, longest: int = 40) -> list[dict]:
    *_, reply = chat.answer(question, list(before), 0, 1, 0, 1, longest, -1, remember)
    return reply


def write(chat: Chat, question: str = "Who wrote Emma?", longest: int = 12, seed: int = 3, **options) -> str:
    *_, (text, _) = chat.write(chat.build_prompt(question, [], longest), longest, seed, {**WARM, **options})
    return text


def test_a_reply_is_reasoning_and_answer(chat, told):
    assert ask(chat, " Who wrote Emma? ") == [THOUGHT, ANSWER]
    assert told == []


def test_it_writes_what_generate_writes_token_by_token(chat):
    prompt = chat.build_prompt("Who wrote Emma?", [], 40)
    *growing, (last, ended) = chat.write(prompt, 40, -1, {"do_sample": False})
    output = chat.model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False, pad_token_id=50256)
    text = chat.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True)
    assert (last, ended) == (text, True)
    assert text == KNOWN.partition("\n\n")[2]
    assert len(growing) > 8
    assert all(text.startswith(part) and not over for part, over in growing)


def test_a_seed_draws_the_same_again(chat):
    assert write(chat) == write(chat)
    assert write(chat) != write(chat, seed=4)
    assert write(chat, seed=-1) != write(chat, seed=-1)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.1}, {"top_k": 1}, {"top_p": 0.05}, {"repetition_penalty": 2.0}, {"longest": 3}]
)
def test_every_setting_changes_the_text(chat, changes):
    assert write(chat, **changes) != write(chat)


def test_closing_stops_the_model(chat, monkeypatch):
    steps, generate = [], chat.model.generate
    monkeypatch.setattr(chat.model, "generate", lambda *args, **options: steps.append(1) or generate(*args, **options))
    texts = chat.write(chat.build_prompt("Count.", [], 900), 900, -1, {"do_sample": False})
    next(texts)
    texts.close()
    assert len(steps) == 1


def test_an_error_in_the_model_reaches_the_page(chat, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(chat.model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(chat, "Who wrote Emma?")


def test_the_page_says_that_a_text_breaks_off(chat, short, told):
    ask(chat, "Count.", longest=9)
    ask(short, "Count.")
    assert len(told) == 2
    assert all("breaks off" in text for text in told)


def test_the_page_says_that_there_is_no_answer(chat, told, monkeypatch):
    monkeypatch.setattr(chat, "write", lambda *args: iter([("Reasoning:\nHm", True)]))
    assert ask(chat, "Why?") == [{**THOUGHT, "content": "Hm"}]
    assert told == ["The model wrote no answer."]


def test_remembering_changes_the_prompt(chat, told, monkeypatch):
    prompts = []
    monkeypatch.setattr(chat, "write", lambda prompt, *args: prompts.append(prompt) or iter(()))
    before = [
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
        {**THOUGHT, "content": "Hm"},
        {"role": "assistant", "content": "So.", "metadata": None},
        {"role": "user", "content": "Stopped before the answer"},
        {**THOUGHT, "content": "Well"},
    ]
    for remember in (False, True):
        ask(chat, "Count.", before=before, remember=remember)
    alone, with_history = map(chat.tokenizer.decode, prompts)
    opening = "" if chat.tokenizer.chat_template else "A:"
    assert alone == f"Q: Count.\n\n{opening}"
    assert with_history == f"Q: Why?\n\n{opening}Reasoning:\nHm\n\nA: So.<|endoftext|>Q: Count.\n\n{opening}"


@pytest.mark.parametrize(("question", "message"), [("why " * 8200, "8,204 tokens.*context of 8,192"), (" ", "write a")])
def test_what_cannot_be_asked_is_an_error_of_the_page(chat, question, message):
    with pytest.raises(gr.Error, match=message):
        ask(chat, question)


def test_whole_numbers_do_as_well(chat):
    """A page sends 2 for 2.0."""
    for numbers in ((2, 1, 0, 2), (2.0, 1.0, 0, 2.0)):
        *_, reply = chat.answer("x", [], *numbers, max_new_tokens=8, seed=3, remember=False)
        assert reply


@pytest.mark.parametrize("values", [(-0.1, 0, -1, 0.9, 0, -2), (2.1, 1.1, 1001, 2.1, 65, 2**32)])
def test_settings_out_of_range_are_refused(values):
    for control, value in zip(build_inputs(64, 0.7, False), values, strict=False):
        assert control.preprocess(control.value) == control.value
        with pytest.raises(gr.Error, match=f"Value {value} is"):
            control.preprocess(value)


def test_the_conversation_is_shown_escaped_and_comes_back_as_it_was():
    """Else Gradio takes what looks like a tag for one, and the text of an earlier turn would change."""
    chatbot, text = plain_chatbot(), '  <img src="x"> &lt; a & b\n\n    c\n'
    shown = chatbot.postprocess([{"role": "user", "content": text}, {**THOUGHT, "content": [text]}])
    for message in shown.root:
        assert message.content[0].text == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for message in chatbot.preprocess(shown):
        assert message["content"] == [{"type": "text", "text": text}]
