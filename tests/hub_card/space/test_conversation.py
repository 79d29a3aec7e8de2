"""What the page shows: reasoning apart from the answer, and notes on what a visitor would wonder about."""

import gradio as gr
import pytest

from hub_card.space.chat.conversation import Conversation
from hub_card.space.chat.messages import note_to_message
from hub_card.space.chat.writer import Writer


def fail(*args, **options):
    raise RuntimeError("out of memory")


def ask(writer: Writer, question: str, *, before: tuple = (), remember: bool = False, longest: int = 40) -> list[dict]:
    *_, (_, messages, _), _ = Conversation(writer).ask(question, list(before), remember, 0, 1, 0, 1, longest, -1)
    return messages


def test_an_error_in_the_model_reaches_the_page(writer, monkeypatch):
    monkeypatch.setattr(writer.model, "forward", fail)
    *_, last_but_one, last = Conversation(writer).ask("Who wrote Emma?", [], False, 0, 1, 0, 1, 40, -1)
    _, messages, _ = last_but_one
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[-1]["content"] == "(The model failed: out of memory (RuntimeError))"
    assert last == (gr.skip(), gr.skip(), False)
    monkeypatch.undo()
    assert ask(writer, "Who wrote Emma?")[-1]["content"] == "Jane Austen"


def test_a_reply_is_reasoning_and_answer(writer):
    question, reasoning, answer = ask(writer, " Who wrote Emma? ")
    assert question == {"role": "user", "content": "Who wrote Emma?"}
    assert reasoning["content"] == "Emma is a novel by Austen."
    assert reasoning["metadata"] == {"title": "Reasoning"}
    assert answer == {"role": "assistant", "content": "Jane Austen"}


def test_the_page_says_why_a_text_breaks_off(writer):
    assert ask(writer, "Count.", longest=9)[-1]["content"].startswith("(The text breaks off after 9 tokens")
    short = Writer(writer.model, writer.tokenizer, context=16)
    assert ask(short, "Count.")[-1]["content"] == "(The text breaks off: the context of 16 tokens is full.)"


def test_the_page_says_when_earlier_questions_are_forgotten(writer):
    before = ask(writer, "Who wrote Emma?")
    short = Writer(writer.model, writer.tokenizer, context=32)
    notes = [message["content"] for message in ask(short, "Count.", before=before, remember=True)]
    assert "(The context of 32 tokens has room for the last 0 of 1 earlier questions.)" in notes
    assert not any("earlier" in message["content"] for message in ask(short, "Count.", before=before))


def test_remembering_changes_the_prompt(writer, monkeypatch):
    prompts = []
    monkeypatch.setattr(writer, "write", lambda prompt, sampling: prompts.append(prompt) or iter(()))
    before = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    for remember in (False, True):
        ask(writer, "Count.", before=before, remember=remember)
    alone, with_history = map(writer.tokenizer.decode, prompts)
    assert alone == "Q: Count.\n\n"
    assert with_history == "Q: Why?\n\nA: So.<|endoftext|>Q: Count.\n\n"


def test_what_cannot_be_asked_stays_in_the_box(writer, monkeypatch):
    told = []
    monkeypatch.setattr(gr, "Warning", lambda text, **options: told.append(text))
    updates = list(Conversation(writer).ask("why " * 8200, [], False, 0, 1, 0, 1, 40, -1))
    assert updates == [(gr.skip(), gr.skip(), gr.skip())]
    assert "8,204 tokens" in told[0]
    assert "8,192 at most" in told[0]


def test_the_page_says_of_a_text_that_was_stopped_that_it_was(writer):
    conversation = Conversation(writer)
    writing = conversation.ask("Count.", [], False, 0, 1, 0, 1, 8000, -1)
    box, _, is_writing = next(writing)
    assert (box.submit_btn, box.stop_btn, is_writing) == (False, True, True)
    _, messages, _ = next(writing)
    writing.close()
    box, noted, is_writing = conversation.finish(messages, is_writing)
    assert (box.submit_btn, box.stop_btn, is_writing) == (True, False, False)
    assert noted == [*messages, note_to_message("Stopped.")]
    box, noted, _ = conversation.finish(messages, is_writing)  # after one that came to its end
    assert (box.submit_btn, box.stop_btn, noted) == (True, False, gr.skip())


def test_programs_get_reasoning_and_answer_or_an_error(writer):
    conversation = Conversation(writer)
    assert conversation.answer("Who wrote Emma?") == {
        "reasoning": "Emma is a novel by Austen.",
        "answer": "Jane Austen",
    }
    with pytest.raises(gr.Error, match="write a question"):
        conversation.answer(" ")
    with pytest.raises(gr.Error, match="temperature is 9"):
        conversation.answer("Count.", temperature=9)
