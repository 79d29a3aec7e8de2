"""What happens on the page: somebody asks, asks again, takes a question back, or stops the answer."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from .messages import Message, messages_to_turns, note_to_message, question_to_message, reply_to_messages, text_of
from .prompt import Prompt, build_prompt
from .reply import Reply, split_reply
from .writer import Sampling, Writer


logger = logging.getLogger(__name__)

Update = tuple[Any, Any, Any]  # of the question's box, the messages, and whether a reply is being written
WARNING_SECONDS = 20
SHOWN_SECONDS = 0.05  # a state of a growing text


class Conversation:
    """Methods for Gradio's events; it closes those that are generators where the visitor stops them or leaves.

    Their `values` are those of `Sampling`, in its order. `finish` comes after each of them, however it ended: only then
    does Gradio take another question, so only then does the box look as if it did.
    """

    def __init__(self, writer: Writer):
        self.writer = writer

    def ask(self, question: str, messages: list[Message], remember: bool, *values) -> Iterator[Update]:
        """The question in the box. It stays there where it cannot be asked."""
        yield from self._ask(question, messages, remember, Sampling(*values), clears_box=True)

    def ask_example(self, example: gr.SelectData, messages: list[Message], remember: bool, *values) -> Iterator[Update]:
        yield from self._ask(example.value["text"], messages, remember, Sampling(*values))

    def ask_again(self, retry: gr.RetryData, messages: list[Message], remember: bool, *values) -> Iterator[Update]:
        question, earlier = _cut(messages, retry.index)
        yield from self._ask(question, earlier, remember, Sampling(*values))

    def finish(self, messages: list[Message], is_writing: bool) -> Update:
        """A generator that was stopped has not come to its own last update."""
        box = gr.Textbox(submit_btn=True, stop_btn=False)
        return box, [*messages, note_to_message("Stopped.")] if is_writing else gr.skip(), False

    def take_back(self, undo: gr.UndoData, messages: list[Message]) -> tuple[str, list[Message]]:
        """The last question goes back into the box."""
        return _cut(messages, undo.index)

    def answer(
        self,
        question: str,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 256,
        seed: int = -1,
    ) -> dict[str, str]:
        """For programs: ask one question. Returns reasoning and answer, each empty where the model wrote none."""
        try:
            sampling = Sampling(temperature, top_p, top_k, repetition_penalty, max_new_tokens, seed)
            prompt = build_prompt(self.writer.tokenizer, question, [], self.writer.context, max_new_tokens)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        *_, written = self.writer.write(prompt.ids, sampling)
        reply = split_reply(written.text)
        return {"reasoning": reply.reasoning, "answer": reply.answer or ""}

    def _ask(
        self, question: str, messages: list[Message], remember: bool, sampling: Sampling, clears_box: bool = False
    ) -> Iterator[Update]:
        turns = messages_to_turns(messages) if remember else []
        try:
            prompt = build_prompt(self.writer.tokenizer, question, turns, self.writer.context, sampling.max_new_tokens)
        except ValueError as error:
            gr.Warning(str(error), duration=WARNING_SECONDS)
            yield gr.skip(), gr.skip(), gr.skip()
            return
        messages = [*messages, question_to_message(question.strip())]
        emptied: dict[str, Any] = {"value": ""} if clears_box else {}
        yield gr.Textbox(submit_btn=False, stop_btn=True, **emptied), messages, True
        for reply in self._reply(prompt, len(turns), sampling):
            yield gr.skip(), messages + reply, gr.skip()
        yield gr.skip(), gr.skip(), False

    def _reply(self, prompt: Prompt, turns: int, sampling: Sampling) -> Iterator[list[Message]]:
        """The messages of a reply as it grows, with notes on what a visitor would otherwise wonder about."""
        notes = []
        if prompt.forgotten_turns:
            notes.append(
                f"The context of {self.writer.context:,} tokens has room for the last "
                f"{turns - prompt.forgotten_turns} of {turns} earlier questions."
            )
        reply, ended, shown_at = Reply("", None), False, 0.0
        try:
            for written in self.writer.write(prompt.ids, sampling):
                reply, ended = split_reply(written.text), written.ended
                # A browser that shows every token of a fast model has no time left for clicks.
                if time.monotonic() - shown_at > SHOWN_SECONDS:
                    shown_at = time.monotonic()
                    yield reply_to_messages(reply, notes)
        except Exception as error:  # whatever it is, the visitor does not see the console
            logger.exception("The model failed.")
            notes.append(f"The model failed: {error} ({type(error).__name__})")
        else:
            notes += self._explain_end(reply, ended, len(prompt.ids), sampling.max_new_tokens)
        yield reply_to_messages(reply, notes)

    def _explain_end(self, reply: Reply, ended: bool, prompt_tokens: int, max_new_tokens: int) -> list[str]:
        """What to say of a text that ended otherwise than with an answer."""
        if ended:
            return [] if reply.answer else ["The model ended here, without an answer."]
        if prompt_tokens + max_new_tokens >= self.writer.context:
            return [f"The text breaks off: the context of {self.writer.context:,} tokens is full."]
        return [f"The text breaks off after {max_new_tokens:,} tokens, the longest reply that the settings allow."]


def _cut(messages: list[Message], index: int | tuple[int, int]) -> tuple[str, list[Message]]:
    """The question there, and what comes before it."""
    assert isinstance(index, int)  # pairs are of an older form of conversations
    return text_of(messages[index]), messages[:index]
