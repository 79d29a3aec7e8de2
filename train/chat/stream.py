"""The answer as it comes: word by word, its reasoning dimmed."""

from typing import TextIO

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer


REASONING, ANSWER, NEXT_QUESTION = "Reasoning:\n", "\nA: ", "\nQ: "
BEGUN_MARKS = ("", "A", "A:", "Q", "Q:")  # a last line that may become the beginning of one of them
DIM, NORMAL = "\x1b[2m", "\x1b[0m"
# A model must not move the cursor or set colours: control characters go, except line ends and tabs.
CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class AnswerStream(TextStreamer):
    """transformers' `TextStreamer` into `file`, without the prompt. It dims the reasoning, keeps the tokens, and ends
    where the model asks itself the next question, as models do that have not learned where to stop. `opening` is text
    that the answer is begun with."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, file: TextIO, colours: bool, opening: str = ""):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.file = file
        self.colours = colours
        self.ids: list[int] = []  # the tokens that were written so far, without the prompt
        self.is_stopped = False
        self._text = opening
        self._shown = 0  # characters of it

    def put(self, value: torch.Tensor) -> None:
        if not self.next_tokens_are_prompt:
            self.ids += value.reshape(-1).tolist()
        super().put(value)

    @property
    def is_reasoning(self) -> bool:
        """Whether no answer has begun behind the reasoning."""
        return self._text.startswith(REASONING) and ANSWER not in self._text

    def is_over(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        """A stopping criterion of `generate`. (Its own `stop_strings` read the whole vocabulary first, for seconds.)"""
        is_over = self.is_stopped or NEXT_QUESTION in self._text
        return torch.full((len(input_ids),), is_over, device=input_ids.device)

    def stop(self) -> None:
        """End the answer with the token that comes next."""
        self.is_stopped = True

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._text += text.translate(CONTROLS)
        ready, next_question, _ = self._text.partition(NEXT_QUESTION)
        before, _, last_line = ready.rpartition("\n")
        if last_line in BEGUN_MARKS and not next_question and not stream_end:
            ready = before
        self._show(ready)
        if stream_end:
            print(file=self.file, flush=True)

    def _show(self, ready: str) -> None:
        """Show what is new of a text of which the beginning is shown."""
        new = ready[self._shown :]
        reasoning = ready.partition(ANSWER)[0] if self._text.startswith(REASONING) else ""
        dimmed = new[: max(0, len(reasoning) - self._shown)] if self.colours else ""
        shown = f"{DIM}{dimmed}{NORMAL}{new[len(dimmed) :]}" if dimmed else new
        print(shown, end="", file=self.file, flush=True)
        self._shown = max(self._shown, len(ready))
