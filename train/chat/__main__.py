"""Chat with a model in the terminal.

    python -m train.chat runs/demo                                 # a run, a checkpoint, a Hub id, a stock GPT-2
    python -m train.chat runs/demo --ask "Who wrote Emma?"         # one question
    echo "Who wrote Emma?" | python -m train.chat runs/demo        # the same: all of a pipe is one question

The answer shows as it is written, its reasoning dimmed. Ctrl-C stops the answer; /help lists the commands.

transformers chats with what save_as_hf_gpt2 writes (it serves no custom code), by the folder's chat template:

    transformers serve EXPORT                                      # in one terminal, and in another
    transformers chat EXPORT http://localhost:8000/v1 max_new_tokens=64 do_sample=False
"""

import argparse
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

import modeling_gpt2scratch  # noqa: F401  registers the model with AutoModelForCausalLM
from train.chat.history import ChatHistory, trained_context
from train.chat.stream import AnswerStream, is_blank, say
from train.run_files import CONFIG_FILE


COMMANDS = {
    "/clear": "forget the conversation so far",
    "/help": "show these commands",
    "/exit": "leave, as does Ctrl-D",
}
INTERRUPTED = 130  # 128 + SIGINT


@dataclass(frozen=True)
class Sampling:
    """How answers are written.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: sample among the likeliest tokens that have this share of the probability.
        top_k: sample among so many of the likeliest tokens; 0 for all.
        max_new_tokens: length of reasoning and answer together, at most.
    """

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"--temperature {self.temperature}: 0 (the likeliest token) or more.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top_p {self.top_p}: above 0, and 1 (all tokens) at most.")
        if self.top_k < 0:
            raise ValueError(f"--top_k {self.top_k}: 0 (all tokens) or more.")
        if self.max_new_tokens < 1:
            raise ValueError(f"--max_new_tokens {self.max_new_tokens}: 1 or more.")

    def options(self) -> dict:
        """As `generate` takes them."""
        if self.temperature == 0:
            return {"do_sample": False}
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}


@dataclass
class Chat:
    """A model and the conversation with it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: ChatHistory
    sampling: Sampling
    colours: bool

    def answer(self, question: str) -> bool:
        """Write the answer to standard output; returns whether it was left to come to its end.

        Raises:
            ValueError: the question does not fit the context.
        """
        prompt, dropped = self.history.prompt(question, self.sampling.max_new_tokens)
        if dropped:
            say(f"({dropped} earlier turn(s) no longer fit the context of {self.history.context_tokens:,} tokens.)")
        room = min(self.sampling.max_new_tokens, self.history.context_tokens - len(prompt))
        stream = AnswerStream(self.tokenizer, sys.stdout, self.colours, self.history.opening)
        input_ids = torch.tensor([prompt], device=self.model.device)
        stopped = False
        try:
            self.model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=room,
                pad_token_id=self.tokenizer.eos_token_id,
                streamer=stream,
                stopping_criteria=[stream.is_over],
                **self.sampling.options(),
            )
        except KeyboardInterrupt:
            stopped = True
            stream.end()
        self.history.add(question, stream.ids)
        if stopped:
            say("(stopped)")
        elif len(stream.ids) == room and stream.ids[-1] != self.tokenizer.eos_token_id:
            say(f"(cut off after {room} tokens)")
        return not stopped

    def converse(self) -> int:
        """Answer what is typed until /exit or Ctrl-D."""
        say("/help lists the commands; Ctrl-C stops an answer.")
        while True:
            try:
                question = input("Q: ").strip()
            except KeyboardInterrupt:
                say("\n(/exit or Ctrl-D leaves)")
                continue
            except EOFError:
                say("")
                return 0
            if question == "/exit":
                return 0
            self._do(question)

    def _do(self, line: str) -> None:
        if line == "/clear":
            self.history.turns.clear()
        elif line.startswith("/"):
            if line != "/help":
                say(f"There is no command {line.split()[0]}.")
            say("\n".join(f"{name:<8}{effect}" for name, effect in COMMANDS.items()))
        elif not is_blank(line):
            try:
                print()
                self.answer(line)
            except ValueError as error:
                say(str(error))
            print()


def load_chat(arguments: argparse.Namespace) -> Chat:
    """Load model and tokenizer.

    Raises:
        OSError, ValueError: there is no model of that name, or it is none that chats in this form.
    """
    sampling = Sampling(arguments.temperature, arguments.top_p, arguments.top_k, arguments.max_new_tokens)
    config = load_config(arguments.model)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    context = trained_context(arguments.model, config)
    if arguments.context is not None:
        if not 2 <= arguments.context <= config.max_position_embeddings:
            raise ValueError(
                f"--context {arguments.context}: the model has positions for 2 to {config.max_position_embeddings:,}."
            )
        context = arguments.context
    # A model that comes without a template, such as a stock GPT-2, has not seen this form: its answer is begun for it.
    opening = "" if tokenizer.chat_template else "A:"
    if tokenizer.chat_template:
        asked = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        if not asked.startswith("Q: x"):
            raise ValueError(
                f"{arguments.model} has a chat template of another form ({asked!r}): see transformers serve in --help."
            )
    model = AutoModelForCausalLM.from_pretrained(arguments.model, config=config, dtype="auto").eval()
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    if arguments.seed is not None:
        torch.manual_seed(arguments.seed)
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return Chat(model, tokenizer, ChatHistory(tokenizer, context, arguments.system, opening), sampling, colours)


def load_config(model: str) -> PretrainedConfig:
    """The model's config.

    Raises:
        OSError, ValueError: there is no such model, in words that say where it was looked for.
    """
    folder = Path(model)
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        raise ValueError(
            f"{model} holds no model (no config.json). A run has one when it is finished; before that, give one of its "
            "checkpoint-* folders."
        )
    try:
        return AutoConfig.from_pretrained(model)
    except OSError as error:
        raise OSError(f"There is no folder {model}, and no such model came from the Hub: {error}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(f"{message} (--help lists all settings)")


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m train.chat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="a run folder, a checkpoint, or a Hub id")
    parser.add_argument("--ask", metavar="QUESTION", help="answer this one question and leave")
    parser.add_argument("--system", default="", metavar="TEXT", help="text before the first question, such as sources")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest token (default: 0.7)")
    parser.add_argument("--top_p", type=float, default=1.0, help="share of the probability to sample from (default: 1)")
    parser.add_argument("--top_k", type=int, default=50, help="likeliest tokens to sample from; 0: all (default: 50)")
    parser.add_argument("--max_new_tokens", type=int, default=256, help="length of an answer, at most (default: 256)")
    parser.add_argument("--context", type=int, help="tokens of conversation and answer (default: as trained)")
    parser.add_argument("--seed", type=int, help="gives the same answers again (default: others each time)")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Run the chat on the words of a command line; returns the exit status."""
    transformers_logging.disable_progress_bar()
    try:
        arguments = parse_arguments(words)
        chat = load_chat(arguments)
        if arguments.ask is None and sys.stdin.isatty():
            with contextlib.suppress(ImportError):  # history and editing of the line; not on Windows
                import readline  # noqa: F401
            return chat.converse()
        question = sys.stdin.read() if arguments.ask is None else arguments.ask
        if is_blank(question):
            raise ValueError("the question is empty.")
        return 0 if chat.answer(question) else INTERRUPTED
    except (OSError, ValueError) as error:
        say(f"chat.py: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
