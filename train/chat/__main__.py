"""Chat with a model in the terminal.

    python -m train.chat runs/demo                                 # a run, a checkpoint, a Hub id, a GPT-2 export
    python -m train.chat runs/demo --ask "Who wrote Emma?"         # one question
    echo "Who wrote Emma?" | python -m train.chat runs/demo        # the same: all of a pipe is one question

The answer shows as it is written, its reasoning dimmed. Ctrl-C stops the answer; /help lists the commands.
"""

import argparse
import contextlib
import io
import os
import sys

import torch
from transformers.utils import logging as transformers_logging

from train.chat.history import ChatHistory
from train.chat.terminal_chat import TerminalChat, is_blank, say
from train.evaluation.opened_model import open_model
from train.run_files import number


INTERRUPTED = 130  # 128 + SIGINT
LOWEST_TEMPERATURE = 1e-5  # below, scores overflow, and only the likeliest token is left anyway


def load_chat(arguments: argparse.Namespace) -> TerminalChat:
    """Open the model; a `ValueError` where there is none, or it has not the form of chat that is asked in here."""
    opened = open_model(arguments.model)
    tokenizer = opened.tokenizer
    if arguments.context is not None and not 2 <= arguments.context <= opened.context:
        raise ValueError(f"--context {arguments.context}: the model has positions for 2 to {opened.context:,}.")
    if tokenizer.chat_template:
        asked = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        if not asked.startswith("Q: x"):
            raise ValueError(
                f"{arguments.model} has a chat template of another form ({asked!r}): use transformers' own chat, "
                "transformers serve and transformers chat."
            )
    # A model without a template, such as OpenAI's GPT-2, has not seen this form: its answer is begun for it.
    opening = "" if tokenizer.chat_template else "A:"
    greedy = arguments.temperature < LOWEST_TEMPERATURE
    sampling = {name: getattr(arguments, name) for name in ("temperature", "top_p", "top_k")}
    return TerminalChat(
        model=opened.model,
        tokenizer=tokenizer,
        history=ChatHistory(tokenizer, arguments.context or opened.window, arguments.system, opening),
        max_new_tokens=arguments.max_new_tokens,
        sampling={"do_sample": False} if greedy else {"do_sample": True, **sampling},
        colours=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(f"{message} (--help lists all settings)")


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m train.chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", help="a run folder, a checkpoint, or a Hub id")
    add("--ask", metavar="QUESTION", help="answer this one question and leave")
    add("--system", default="", metavar="TEXT", help="text before the first question, such as sources")
    add("--temperature", type=number(float, 0, 1e6), default=0.7, help="0 takes the likeliest token (default: 0.7)")
    add("--top_p", type=number(float, 1e-6, 1), default=1.0, help="share of the probability to sample from (1)")
    add("--top_k", type=number(int, 0), default=50, help="likeliest tokens to sample from; 0: all (default: 50)")
    add("--max_new_tokens", type=number(int, 1), default=256, help="length of an answer, at most (default: 256)")
    add("--context", type=int, help="tokens of conversation and answer (default: as trained)")
    add(
        "--seed",
        type=number(int, -(2**63), 2**64 - 1),
        help="gives the same answers again (default: others each time)",
    )
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Run the chat; returns the exit status."""
    transformers_logging.disable_progress_bar()
    # A closed stream is None. What is no text in a stream's encoding becomes U+FFFD or "?", and stops nothing.
    sys.stdin, sys.stdout, sys.stderr = (stream or io.StringIO() for stream in (sys.stdin, sys.stdout, sys.stderr))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        arguments = parse_arguments(argv)
        chat = load_chat(arguments)
        if arguments.seed is not None:
            torch.manual_seed(arguments.seed)
        if arguments.ask is None and sys.stdin.isatty():
            with contextlib.suppress(ImportError):  # history and editing of the line; not on Windows
                import readline  # noqa: F401
            chat.converse()
            return 0
        question = sys.stdin.read() if arguments.ask is None else arguments.ask
        if is_blank(question):
            raise ValueError("the question is empty.")
        return 0 if chat.answer(question) else INTERRUPTED
    except (OSError, ValueError) as error:
        say(f"chat: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
