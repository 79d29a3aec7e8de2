"""The page: a chat with one model, in Gradio. It fetches nothing from elsewhere and sends nothing there."""

import html
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from .prompt import build_prompt, text_of
from .reply import split_reply
from .settings import Settings
from .writer import Writer, open_model


MAX_WAITING = 32  # questions in the queue; one is answered at a time
HIGHEST_SEED = 2**32 - 1
SECONDS_BETWEEN_UPDATES = 0.05  # a browser that shows every token of a fast model has no time left for clicks
# By these options of `launch` the page fetches nothing from elsewhere, whatever Gradio would: fonts are those of the
# visitor's system. The copy button gives a text as it was before it was escaped, also where the page is no secure
# context (http to another machine) and so has no clipboard of its own.
LAUNCH_OPTIONS: dict[str, Any] = {
    "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "head": """<meta http-equiv="Content-Security-Policy"
        content="default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:">
    <script>
        const select = async (text) => {
            const area = document.body.appendChild(Object.assign(document.createElement("textarea"), {value: text}));
            area.select();
            document.execCommand("copy");
            area.remove();
        };
        const write = navigator.clipboard?.writeText.bind(navigator.clipboard) ?? select;
        if (!navigator.clipboard) Object.defineProperty(navigator, "clipboard", {value: {}});
        navigator.clipboard.writeText = (text) =>
            write(text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&"));
    </script>""",
    "css": ".message-markdown-disabled .md { white-space: pre-wrap; overflow-wrap: anywhere; }",
    "ssr_mode": False,
}


def build_page(settings: Settings) -> gr.ChatInterface:
    """Open the model and build the page, which `launch` then shows."""
    writer = open_model(settings)
    chat, layers = Chat(writer), writer.model.config.num_hidden_layers
    description = (
        f"GPT-2, {writer.model.num_parameters() / 1e6:,.1f} million parameters, {layers} layers, "
        f"context of {writer.context:,} tokens"
    )
    page = gr.ChatInterface(
        chat.answer,
        validator=chat.check,
        title=html.escape(settings.title),
        description=description,
        chatbot=plain_chatbot(),
        textbox=gr.Textbox(label="Question", placeholder="Ask a question", submit_btn=True, stop_btn=True, scale=7),
        examples=[[question] for question in settings.examples],
        cache_examples=False,
        additional_inputs=build_inputs(writer.context, settings.temperature, settings.remember),
        additional_inputs_accordion=gr.Accordion("Answer settings", open=False),
        api_name="answer",
        analytics_enabled=False,
    )
    return page.queue(max_size=MAX_WAITING)


def build_inputs(context: int, temperature: float, remember: bool) -> list[str | Component]:
    """Controls for the arguments of `Chat.answer`, in their order."""
    return [
        gr.Slider(0, 2, temperature, step=0.05, label="Temperature", info="0: always the likeliest token"),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top p", info="Sample from the likeliest tokens of this share"),
        gr.Slider(0, 1000, 50, step=1, precision=0, label="Top k", info="Sample from so many tokens; 0: all"),
        gr.Slider(1, 2, 1, step=0.05, label="Repetition penalty", info="1: none"),
        gr.Slider(1, context, max(1, context // 2), step=1, precision=0, label="Longest reply", info="In tokens"),
        gr.Number(-1, precision=0, minimum=-1, maximum=HIGHEST_SEED, label="Seed", info="-1: another each time"),
        gr.Checkbox(remember, label="Remember earlier questions", info="For a model trained on conversations"),
    ]


def plain_chatbot() -> gr.Chatbot:
    """Gradio's, with texts as they are: even without Markdown it takes tags for HTML, and space at the edges away.

    Not a class of its own: Gradio would write a stub file beside this one.
    """
    chatbot = gr.Chatbot(label="Conversation", buttons=["copy"], scale=1, render_markdown=False, latex_delimiters=[])
    show, read = chatbot.postprocess, chatbot.preprocess
    escape = partial(html.escape, quote=False)
    chatbot.postprocess = lambda value: show(_with_texts(value or [], escape))  # type: ignore[method-assign]
    chatbot.preprocess = lambda payload: _with_texts(read(payload), html.unescape)  # type: ignore[method-assign]
    return chatbot


def _with_texts(messages: Any, change: Callable[[str], str]) -> Any:
    """Messages whose texts are changed; a text becomes a part, which Gradio leaves as it is."""
    return [{**message, "content": [{"type": "text", "text": change(text_of(message))}]} for message in messages]


class Chat:
    """Answers questions with one model."""

    def __init__(self, writer: Writer):
        self.writer = writer

    def check(self, question: str) -> dict:
        """Whether the question can be asked; if not, it stays in its box."""
        try:
            build_prompt(self.writer.tokenizer, question, [], self.writer.context, reply_tokens=0)
        except ValueError as error:
            return gr.validate(False, str(error))
        return gr.validate(True, "")

    def answer(
        self,
        question: str,
        history: list[dict],
        temperature: float,
        top_p: float,
        top_k: int,
        repetition_penalty: float,
        max_new_tokens: int,
        seed: int,
        remember: bool,
    ) -> Iterator[list[dict]]:
        """The reply as it grows: a message with the reasoning, where there is any, and one with the answer."""
        earlier = history if remember else []
        try:
            prompt = build_prompt(self.writer.tokenizer, question, earlier, self.writer.context, max_new_tokens)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        sampling = {"temperature": float(temperature), "top_p": float(top_p), "top_k": top_k} if temperature else {}
        text, ended, shown_at = "", False, 0.0
        for text, ended in self.writer.write(
            prompt,
            seed,
            max_new_tokens=max_new_tokens,
            repetition_penalty=float(repetition_penalty),
            do_sample=temperature > 0,
            **sampling,
        ):
            if not ended and time.monotonic() - shown_at > SECONDS_BETWEEN_UPDATES:
                shown_at = time.monotonic()
                yield to_messages(text)
        yield to_messages(text)
        where = "" if split_reply(text)[1] else " before an answer"
        if not ended:
            gr.Info(f"The reply breaks off{where}: it has the longest length that the settings, or the context, allow.")
        elif where:
            gr.Info("The model wrote no answer.")


def to_messages(text: str) -> list[dict]:
    reasoning, answer = split_reply(text)
    thought = {"role": "assistant", "content": reasoning, "metadata": {"title": "Reasoning"}}
    return [*([thought] if reasoning else []), *([{"role": "assistant", "content": answer}] if answer else [])]
