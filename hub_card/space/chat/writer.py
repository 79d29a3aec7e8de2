"""Writes with the model, token by token, one text at a time, until the text ends or nobody listens any more."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextIteratorStreamer

from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model

from .settings import Settings


def open_model(settings: Settings) -> "Writer":
    """The model, on the accelerator where there is one; an OSError or a ValueError where it does not open."""
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    if settings.revision is not None:
        options |= {"revision": settings.revision, "code_revision": settings.revision}
    model = load_whole_model(settings.model, **options)
    tokenizer = load_own_tokenizer(settings.model, model.config.vocab_size, **options)
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    positions = model.config.max_position_embeddings
    return Writer(model.to(device).eval(), tokenizer, min(positions, settings.context or positions))


class Writer:
    """Takes a model in evaluation mode, on its device; `context`: tokens that prompt and text may take together."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int):
        self.model = model
        self.tokenizer = tokenizer
        self.context = context
        self._busy = threading.Lock()

    def write(self, prompt: list[int], seed: int = -1, **options: Any) -> Iterator[tuple[str, bool]]:
        """The text so far after each word, and whether the model has ended it.

        `generate` runs in a thread. Closing this iterator stops it at the next token; an error in it is raised here. A
        negative seed samples anew each time; the options are for `generate`.
        """
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        stopped, written = threading.Event(), Future[list[int]]()

        def stop(input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            return torch.full((1,), stopped.is_set(), device=input_ids.device)

        def run() -> None:
            try:
                with self._busy:
                    written.set_result(self._generate(prompt, seed, streamer, stopping_criteria=[stop], **options))
            except Exception as error:  # it is raised again where somebody waits for the text
                written.set_exception(error)
                streamer.end()

        threading.Thread(target=run, name="writer", daemon=True).start()
        text = ""
        try:
            for words in streamer:
                text += words
                yield text, False
            yield text, written.result()[-1:] == [self.tokenizer.eos_token_id]
        finally:
            stopped.set()

    @torch.inference_mode()
    def _generate(
        self, prompt: list[int], seed: int, streamer: TextIteratorStreamer, max_new_tokens: int, **options: Any
    ) -> list[int]:
        """The tokens after the prompt."""
        torch.manual_seed(seed) if seed >= 0 else torch.seed()
        input_ids = torch.tensor([prompt], device=self.model.device)  # (1, T)
        output = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=min(max_new_tokens, self.context - len(prompt)),
            pad_token_id=self.tokenizer.eos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            streamer=streamer,
            **options,
        )
        return output[0, len(prompt) :].tolist()
