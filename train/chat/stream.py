"""What a chat shows while the model writes: the text as it comes, its reasoning dimmed."""

import sys
from typing import Literal, TextIO

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer

from train.data.rows.synth import BLANK


REASONING, ANSWER, NEXT_QUESTION = "Reasoning:\n", "\nA: ", "\nQ: "
DIM, NORMAL = "\x1b[2m", "\x1b[0m"
# A model must not move the cursor or set colours: control characters go, but for line ends and tabs.
CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del CONTROLS[ord("\n")], CONTROLS[ord("\t")]


class ReasoningDimmer:
    """Dims the reasoning in a text that comes piece by piece, and ends the text where the model asks itself the next
    question, as those do that were not taught where to stop.

    The text is otherwise as it was written. A piece that may be the beginning of a mark is held back until it is known.

    Args:
        colours: whether to write the terminal's codes; without them only the text's end is found.

    Attributes:
        over: whether the next question has begun.
    """

    def __init__(self, colours: bool):
        self.colours = colours
        self._part: Literal["start", "reasoning", "answer", "over"] = "start"
        self._held = ""

    @property
    def over(self) -> bool:
        return self._part == "over"

    def feed(self, piece: str) -> str:
        """What to show, now that `piece` has come."""
        self._held += piece
        shown = ""
        if self._part == "start" and not REASONING.startswith(self._held):
            self._part = "reasoning" if self._held.startswith(REASONING) else "answer"
            shown += self._code(DIM)
        if self._part == "reasoning":
            text, found = self._take_until(ANSWER)
            shown += text
            if found:
                shown += self._code(NORMAL)
                self._part = "answer"
        if self._part == "answer":
            text, found = self._take_until(NEXT_QUESTION)
            shown += text
            if found:
                self._part = "over"
        return shown

    def end(self) -> str:
        """What is left to show when the text has ended."""
        shown = "" if self.over else self._held
        shown += self._code(NORMAL)
        self._part, self._held = "over", ""
        return shown

    def _code(self, code: str) -> str:
        return code if self.colours and self._part == "reasoning" else ""

    def _take_until(self, mark: str) -> tuple[str, bool]:
        """Take the held text up to the mark, or as much of it as cannot be the mark's beginning."""
        before, found, after = self._held.partition(mark)
        if found:
            self._held = mark + after
            return before, True
        kept = next(length for length in range(len(mark) - 1, -1, -1) if self._held.endswith(mark[:length]))
        taken = self._held[: len(self._held) - kept]
        self._held = self._held[len(taken) :]
        return taken, False


class AnswerStream(TextStreamer):
    """Identical to `transformers.TextStreamer`, except that the prompt is not shown, the reasoning is dimmed on a
    terminal, and the tokens that were written are kept.

    Args:
        file: where the text goes.
        opening: text that the answer is begun with.

    Attributes:
        ids: the tokens written so far, without the prompt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, file: TextIO, colours: bool, opening: str = ""):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.file = file
        self.ids: list[int] = []
        self._dimmer = ReasoningDimmer(colours)
        self.on_finalized_text(opening)

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.ids += value.reshape(-1).tolist()
        super().put(value)

    def is_over(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """A stopping criterion of `generate`. (Its own `stop_strings` read the whole vocabulary first, for seconds.)"""
        return torch.full((len(input_ids),), self._dimmer.over, device=input_ids.device)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        shown = self._dimmer.feed(text.translate(CONTROLS))
        if stream_end:
            shown += self._dimmer.end() + "\n"
        print(shown, end="", file=self.file, flush=True)


def say(notice: str) -> None:
    """Something that is not the model's, on standard error."""
    sys.stderr.write(f"{notice}\n")
    sys.stderr.flush()


def is_blank(text: str) -> bool:
    return not text.strip(BLANK)
