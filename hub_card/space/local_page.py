"""The chat page on this machine, in Gradio. It fetches nothing from elsewhere and sends nothing there."""

import html
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr
import torch
from gradio.components import Component
from transformers import DynamicCache

from hub_card.space.model_choice import Settings
from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model
from train.chat.history import ChatHistory


SECONDS_BETWEEN_UPDATES = 0.05  # a browser that shows every token of a fast model has no time left for clicks
REASONING, ANSWER = "Reasoning:\n", "A: "
# By these options of `launch` the page fetches nothing from elsewhere, whatever Gradio would.
LAUNCH_OPTIONS: dict[str, Any] = {
    "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
    "head": """<meta http-equiv="Content-Security-Policy"
        content="default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:">""",
    "css": ".message-markdown-disabled .md { white-space: pre-wrap; overflow-wrap: anywhere; }",
    "ssr_mode": False,
}


def build_page(settings: Settings) -> gr.ChatInterface:
    """Open the model and build the page, which `launch` then shows."""
    chat = Chat(settings)
    config = chat.model.config
    return gr.ChatInterface(
        chat.answer,
        validator=chat.check,
        title=html.escape(settings.title),
        description=f"GPT-2, {chat.model.num_parameters() / 1e6:,.1f} million parameters, {config.num_hidden_layers} "
        f"layers, context of {chat.context:,} tokens",
        chatbot=plain_chatbot(),
        textbox=gr.Textbox(label="Question", placeholder="Ask a question", submit_btn=True, stop_btn=True, scale=7),
        examples=[[question] for question in settings.examples],
        cache_examples=False,
        additional_inputs=build_inputs(chat.context, settings.temperature, settings.remember),
        additional_inputs_accordion=gr.Accordion("Answer settings", open=False),
        api_name="answer",
        analytics_enabled=False,
    )


def build_inputs(context: int, temperature: float, remember: bool) -> list[str | Component]:
    """Controls for the arguments of `Chat.answer`, in their order."""
    return [
        gr.Slider(0, 2, temperature, step=0.05, label="Temperature", info="0: always the likeliest token"),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top p", info="Sample from the likeliest tokens of this share"),
        gr.Slider(0, 1000, 50, step=1, precision=0, label="Top k", info="Sample from so many tokens; 0: all"),
        gr.Slider(1, 2, 1, step=0.05, label="Repetition penalty", info="1: none"),
        gr.Slider(1, context, max(1, context // 2), step=1, precision=0, label="Longest reply", info="In tokens"),
        gr.Number(-1, precision=0, minimum=-1, maximum=2**32 - 1, label="Seed", info="-1: another each time"),
        gr.Checkbox(remember, label="Remember earlier questions", info="For a model trained on conversations"),
    ]


def plain_chatbot() -> gr.Chatbot:
    """Gradio's, with texts as they are: even without Markdown it takes tags for HTML, and space at the edges away.

    Not a class of its own: Gradio would write a stub file beside this one.
    """
    chatbot = gr.Chatbot(label="Conversation", scale=1, render_markdown=False, latex_delimiters=[], buttons=[])
    show, read = chatbot.postprocess, chatbot.preprocess
    escape = partial(html.escape, quote=False)
    chatbot.postprocess = lambda value: show(_with_texts(value or [], escape))  # type: ignore[method-assign]
    chatbot.preprocess = lambda payload: _with_texts(read(payload), html.unescape)  # type: ignore[method-assign]
    return chatbot


def _with_texts(messages: Any, change: Callable[[str], str]) -> Any:
    """Messages whose texts are changed; a text becomes a part, which Gradio leaves as it is."""
    return [{**message, "content": [{"type": "text", "text": change(text_of(message))}]} for message in messages]


def text_of(message: dict) -> str:
    """A content is a text, or a list of parts: from the page with a type, from a clicked example without."""
    parts = [message["content"]] if isinstance(message["content"], str) else message["content"]
    return "".join(part if isinstance(part, str) else part["text"] for part in parts)


class Chat:
    """Answers questions with one model, on the accelerator where there is one; Gradio lets one question in at a time.
    An OSError or a ValueError where the model does not open."""

    def __init__(self, settings: Settings):
        model = load_whole_model(settings.model)
        self.tokenizer = load_own_tokenizer(settings.model, model.config.vocab_size)
        device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
        self.model = model.to(device)
        positions = model.config.max_position_embeddings
        self.context = min(positions, settings.context or positions)  # of prompt and reply together, in tokens

    def check(self, question: str) -> dict:
        """Whether the question can be asked; if not, it stays in its box."""
        try:
            self.build_prompt(question, [], longest=0)
        except ValueError as error:
            return gr.validate(False, str(error))
        return gr.validate(True, "")

    def build_prompt(self, question: str, earlier: list[dict], longest: int) -> list[int]:
        """Ids of the question, behind the page's earlier messages; a `ValueError` where it cannot be asked."""
        if not question.strip():
            raise ValueError("Please write a question first.")
        # A model without a template, such as OpenAI's GPT-2, has not seen this form: its answer is begun for it.
        history = ChatHistory(self.tokenizer, self.context, opening="" if self.tokenizer.chat_template else "A:")
        asked = reply = ""
        for message in earlier:
            if message["role"] == "user":
                asked, reply = text_of(message), ""
            elif (message.get("metadata") or {}).get("title"):
                reply = f"{REASONING}{text_of(message)}\n\n"
            else:
                ids = self.tokenizer(f"{reply}{ANSWER}{text_of(message)}", split_special_tokens=True)["input_ids"]
                history.add(asked, ids)
        return history.prompt(question, longest)[0]

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
        try:
            prompt = self.build_prompt(question, history if remember else [], max_new_tokens)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        sampling = {"temperature": float(temperature), "top_p": float(top_p), "top_k": top_k} if temperature else {}
        options = {"do_sample": temperature > 0, "repetition_penalty": float(repetition_penalty), **sampling}
        text, ended, shown_at = "", False, 0.0
        for text, ended in self.write(prompt, min(max_new_tokens, self.context - len(prompt)), seed, options):
            if not ended and time.monotonic() - shown_at > SECONDS_BETWEEN_UPDATES:
                shown_at = time.monotonic()
                yield to_messages(text)
        yield to_messages(text)
        where = "" if split_reply(text)[1] else " before an answer"
        if not ended:
            gr.Info(f"The reply breaks off{where}: it has the longest length that the settings, or the context, allow.")
        elif where:
            gr.Info("The model wrote no answer.")

    @torch.inference_mode()
    def write(self, prompt: list[int], longest: int, seed: int, options: dict) -> Iterator[tuple[str, bool]]:
        """The text after each token, and whether the model has ended it; a negative seed samples anew each time."""
        torch.manual_seed(seed) if seed >= 0 else torch.seed()
        end, cache = self.tokenizer.eos_token_id, DynamicCache(config=self.model.config)
        ids = torch.tensor([prompt], device=self.model.device)  # (1, T)
        for _ in range(longest):
            options = {**options, "attention_mask": torch.ones_like(ids), "pad_token_id": end, "eos_token_id": end}
            ids = self.model.generate(ids, past_key_values=cache, max_new_tokens=1, **options)
            text = self.tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)
            yield text.rstrip("\N{REPLACEMENT CHARACTER}"), bool(ids[0, -1] == end)
            if ids[0, -1] == end:
                return


def split_reply(text: str) -> tuple[str, str]:
    """Reasoning and answer of a text that may still grow, each empty while there is none.

    A text in another form than the training rows is an answer as a whole. A mark that is only begun is not shown, nor
    the line ends behind reasoning, which may belong to one; else space stays as it was written.
    """
    begun = text.lstrip()
    if REASONING.startswith(begun) or ANSWER.startswith(begun):
        return "", ""
    if not begun.startswith(REASONING):
        return "", begun.removeprefix(ANSWER) if begun.startswith(ANSWER) else text
    reasoning, _, answer = begun.removeprefix(REASONING).partition(f"\n\n{ANSWER}")
    return reasoning.removesuffix("\n\nA:").removesuffix("\n\nA").rstrip("\n"), answer


def to_messages(text: str) -> list[dict]:
    reasoning, answer = split_reply(text)
    thought = {"role": "assistant", "content": reasoning, "metadata": {"title": "Reasoning"}}
    return [*([thought] if reasoning else []), *([{"role": "assistant", "content": answer}] if answer else [])]
