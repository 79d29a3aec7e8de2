"""A conversation at the terminal."""

import signal
import sys
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.chat.history import ChatHistory
from train.chat.stream import AnswerStream
from train.data.rows.synth import BLANK


COMMANDS = {
    "/clear": "forget the conversation so far",
    "/help": "show these commands",
    "/exit": "leave, as does Ctrl-D",
}


@dataclass
class TerminalChat:
    """A model and the conversation with it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: ChatHistory
    max_new_tokens: int  # of reasoning and answer together, at most
    sampling: dict  # arguments of `generate` that choose the next token
    colours: bool  # whether the terminal takes them

    def answer(self, question: str) -> bool:
        """Write the answer to standard output; returns whether Ctrl-C left it to come to its end. A `ValueError` where
        the question does not fit the context."""
        prompt, dropped = self.history.prompt(question, self.max_new_tokens)
        if dropped:
            say(f"({dropped} earlier turn(s) no longer fit the context of {self.history.context_tokens:,} tokens.)")
        room = min(self.max_new_tokens, self.history.context_tokens - len(prompt))
        stream = AnswerStream(self.tokenizer, sys.stdout, self.colours, self.history.opening)
        input_ids = torch.tensor([prompt], device=self.model.device)
        # Raised anywhere, KeyboardInterrupt can be lost in code that cannot pass it on.
        interrupt = signal.signal(signal.SIGINT, lambda *_: stream.stop())
        try:
            self.model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=room,
                pad_token_id=self.tokenizer.eos_token_id,
                streamer=stream,
                stopping_criteria=[stream.is_over],
                **self.sampling,
            )
        finally:
            signal.signal(signal.SIGINT, interrupt)
        self.history.add(question, stream.ids)
        if stream.is_stopped:
            say("(stopped)")
        elif len(stream.ids) == room and stream.ids[-1] != self.tokenizer.eos_token_id:
            say(f"(cut off after {room} tokens{', inside its reasoning' if stream.is_reasoning else ''})")
        return not stream.is_stopped

    def converse(self) -> None:
        """Answer what is typed until /exit or Ctrl-D."""
        say("/help lists the commands; Ctrl-C stops an answer.")
        while True:
            try:
                line = input("Q: ").strip()
            except KeyboardInterrupt:
                say("\n(/exit or Ctrl-D leaves)")
                continue
            except EOFError:
                return say("")
            if line == "/exit":
                return None
            self._do(line)

    def _do(self, line: str) -> None:
        if line == "/clear":
            self.history.turns.clear()
        elif line.startswith("/"):
            if line != "/help":
                say(f"There is no command {line.split()[0]}.")
            say("\n".join(f"{name:<8}{effect}" for name, effect in COMMANDS.items()))
        elif not is_blank(line):
            sys.stdout.write("\n")
            try:
                self.answer(line)
            except ValueError as error:
                say(str(error))
            sys.stdout.write("\n")


def say(notice: str) -> None:
    """Something that is not the model's, on standard error."""
    sys.stderr.write(f"{notice}\n")
    sys.stderr.flush()


def is_blank(text: str) -> bool:
    return not text.strip(BLANK)
