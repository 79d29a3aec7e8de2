"""The page: a chat with one model, in Gradio. Nothing of it is fetched from elsewhere, and nothing is sent there."""

import html
import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import api

from .conversation import Conversation
from .settings import Settings
from .writer import SAMPLING_LIMITS, Writer, open_model


logger = logging.getLogger(__name__)

STYLE_FILE = Path(__file__).with_name("page.css")
MAX_WAITING = 32  # visitors in the queue; one is answered at a time
# The fonts of the visitor's system.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def serve(settings: Settings, host: str | None = None, port: int | None = None) -> None:
    """Open the model and show the page until Ctrl-C.

    Args:
        host: address to listen at; where `None`, Gradio's choice: this machine alone, or what a Space says.
        port: where `None`, the same, or the first free one from 7860.

    Raises:
        OSError: the port is taken, or the model is not there.
    """
    page = build_page(open_model(settings), settings)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        run_history=False,
        footer_links=["api", "gradio"],
        theme=THEME,
        css_paths=STYLE_FILE,
    )
    logger.info("%s is at %s (Ctrl-C ends it)", settings.title, page.local_url)
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)


def build_page(writer: Writer, settings: Settings) -> gr.Blocks:
    conversation = Conversation(writer)
    with gr.Blocks(title=settings.title, analytics_enabled=False, fill_height=True) as page:
        gr.Markdown(f"# {html.escape(settings.title)}\n\n{describe_model(writer)}", elem_id="heading")
        messages = gr.Chatbot(
            label="Conversation",
            show_label=False,
            placeholder="Ask a question" + (", or try one of these." if settings.examples else "."),
            examples=[{"text": question} for question in settings.examples],
            buttons=["copy"],
            scale=1,
            min_height=240,
        )
        question = gr.Textbox(
            label="Question",
            show_label=False,
            placeholder="Ask a question",
            submit_btn=True,
            max_lines=8,
            autofocus=True,
            elem_id="question",
        )
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            sampling = build_sampling(writer.context, settings.temperature)
            remember = gr.Checkbox(
                settings.remember,
                label="Remember earlier questions",
                info="For a model that was trained on conversations",
            )
        connect(conversation, question, messages, [remember, *sampling])
    page.queue(max_size=MAX_WAITING)
    return page


def build_sampling(context: int, temperature: float) -> list[Component]:
    """Controls for the values of `Sampling`, in its order."""
    limits = SAMPLING_LIMITS
    lowest_seed, highest_seed = limits["seed"]
    return [
        gr.Slider(*limits["temperature"], temperature, step=0.05, label="Temperature", info="0: the likeliest token"),
        gr.Slider(*limits["top_p"], 0.95, step=0.05, label="Top p", info="The likeliest, to this probability"),
        gr.Slider(*limits["top_k"], 50, step=1, precision=0, label="Top k", info="So many likeliest; 0: all"),
        gr.Slider(*limits["repetition_penalty"], 1, step=0.05, label="Repetition penalty", info="1: none"),
        gr.Slider(1, context, max(1, context // 2), step=1, precision=0, label="Longest reply", info="Tokens in all"),
        gr.Number(
            -1, precision=0, minimum=lowest_seed, maximum=highest_seed, label="Seed", info="-1: another each time"
        ),
    ]


def connect(conversation: Conversation, question: gr.Textbox, messages: gr.Chatbot, values: list[Component]) -> None:
    """Gradio's events: those that the model answers wait for one another."""
    is_writing = gr.State(False)
    shown = [question, messages, is_writing]
    # The question stays usable while the model writes: only the conversation shows that something goes on.
    one_at_a_time: dict[str, Any] = {
        "outputs": shown,
        "concurrency_limit": 1,
        "concurrency_id": "model",
        "show_progress_on": messages,
    }
    asking: list[Any] = [
        question.submit(conversation.ask, [question, messages, *values], **one_at_a_time, api_visibility="private"),
        messages.example_select(
            conversation.ask_example, [messages, *values], **one_at_a_time, api_visibility="private"
        ),
        messages.retry(conversation.ask_again, [messages, *values], **one_at_a_time, api_visibility="private"),
    ]
    question.stop(None, cancels=asking, api_visibility="private")
    for event in asking:
        event.then(conversation.finish, [messages, is_writing], shown, queue=False, api_visibility="private")
    messages.undo(conversation.take_back, messages, [question, messages], queue=False, api_visibility="private")
    api(conversation.answer, api_name="answer", concurrency_limit=1, concurrency_id="model")


def describe_model(writer: Writer) -> str:
    config, parameters = writer.model.config, writer.model.num_parameters()
    return (
        f"GPT-2 · {parameters / 1e6:,.1f} million parameters · {config.num_hidden_layers} layers · "
        f"context of {writer.context:,} tokens"
    )
