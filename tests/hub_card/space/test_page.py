"""The page's answers: reasoning apart from the answer, and a word where a visitor would wonder."""

import gradio as gr
import pytest

from hub_card.space.chat.page import Chat, build_inputs, plain_chatbot
from hub_card.space.chat.writer import Writer


THOUGHT = {"role": "assistant", "content": "Emma is a novel by Austen.", "metadata": {"title": "Reasoning"}}
ANSWER = {"role": "assistant", "content": "Jane Austen"}


@pytest.fixture
def told(monkeypatch) -> list[str]:
    """The notices that the page shows."""
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", told.append)
    return told


def ask(writer: Writer, question: str, *, before: tuple = (), remember: bool = False, longest: int = 40) -> list[dict]:
    *_, reply = Chat(writer).answer(question, list(before), 0, 1, 0, 1, longest, -1, remember)
    return reply


def test_an_error_in_the_model_reaches_the_page(writer, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(writer.model, "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        ask(writer, "Who wrote Emma?")
    monkeypatch.undo()
    assert ask(writer, "Who wrote Emma?") == [THOUGHT, ANSWER]


def test_a_reply_is_reasoning_and_answer(writer, told):
    assert ask(writer, " Who wrote Emma? ") == [THOUGHT, ANSWER]
    assert told == []


def test_the_page_says_that_a_text_breaks_off(writer, told):
    ask(writer, "Count.", longest=9)
    ask(Writer(writer.model, writer.tokenizer, context=16), "Count.")
    assert len(told) == 2
    assert all("breaks off" in text for text in told)


def test_the_page_says_that_there_is_no_answer(writer, told, monkeypatch):
    monkeypatch.setattr(writer, "write", lambda *args, **options: iter([("Reasoning:\nHm", True)]))
    assert ask(writer, "Why?") == [{**THOUGHT, "content": "Hm"}]
    assert told == ["The model wrote no answer."]


def test_remembering_changes_the_prompt(writer, told, monkeypatch):
    prompts = []
    monkeypatch.setattr(writer, "write", lambda prompt, *args, **options: prompts.append(prompt) or iter(()))
    before = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    for remember in (False, True):
        ask(writer, "Count.", before=before, remember=remember)
    alone, with_history = map(writer.tokenizer.decode, prompts)
    assert alone == "Q: Count.\n\n"
    assert with_history == "Q: Why?\n\nA: So.<|endoftext|>Q: Count.\n\n"


@pytest.mark.parametrize(("question", "message"), [("why " * 8200, "8,204 tokens.*8,192 at most"), (" ", "write a")])
def test_what_cannot_be_asked_is_an_error_of_the_page(writer, question, message):
    with pytest.raises(gr.Error, match=message):
        ask(writer, question)


def test_whole_numbers_do_as_well(writer):
    """A page sends 2 for 2.0."""
    for numbers in ((2, 1, 0, 2), (2.0, 1.0, 0, 2.0)):
        *_, reply = Chat(writer).answer("x", [], *numbers, max_new_tokens=8, seed=3, remember=False)
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
