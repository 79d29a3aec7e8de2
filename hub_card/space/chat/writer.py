"""The model, writing: token by token, one text at a time, until it ends or nobody listens any more."""

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from .settings import Settings


SAMPLING_LIMITS = {
    "temperature": (0, 2),
    "top_p": (0.05, 1),
    "top_k": (0, 1000),
    "repetition_penalty": (1, 2),
    "max_new_tokens": (1, 1_000_000),
    "seed": (-1, 2**32 - 1),
}


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many are.

    Args:
        temperature: 0 takes the likeliest token, whatever the next two say.
        top_p: choose among the likeliest tokens that together have this probability; 1 takes all.
        top_k: choose among so many likeliest tokens; 0 takes all.
        repetition_penalty: above 1, tokens that are there already become less likely.
        max_new_tokens: length of the text, at most.
        seed: of the draws; a negative one draws anew each time.

    Raises:
        ValueError: a value is outside of its `SAMPLING_LIMITS`.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int = -1

    def __post_init__(self):
        for name, (low, high) in SAMPLING_LIMITS.items():
            value = asdict(self)[name]
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}: it has to be between {low} and {high:,}.")


@dataclass(frozen=True)
class Written:
    """
    Args:
        text: all that was written so far.
        ended: whether the model has ended it by itself.
    """

    text: str
    ended: bool


def open_model(settings: Settings) -> "Writer":
    """The model on the accelerator, where there is one.

    Raises:
        OSError, ValueError: there is no such model, its weights are damaged, or it does not open otherwise.
    """
    options: dict[str, object] = {"trust_remote_code": settings.trust_remote_code}
    if settings.revision is not None:
        options |= {"revision": settings.revision, "code_revision": settings.revision}
    tokenizer = AutoTokenizer.from_pretrained(settings.model, **options)
    try:
        model = AutoModelForCausalLM.from_pretrained(settings.model, **options)
    except SafetensorError as error:
        raise ValueError(f"The weights of {settings.model} are damaged ({error}): copy them again.") from error
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    positions = model.config.max_position_embeddings
    return Writer(model.to(device).eval(), tokenizer, min(positions, settings.context or positions))


class Writer:
    """
    Args:
        model: in evaluation mode, where it is to run.
        context: tokens that prompt and text may take together.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: int):
        self.model = model
        self.tokenizer = tokenizer
        self.context = context
        self._busy = threading.Lock()

    def write(self, prompt: list[int], sampling: Sampling) -> Iterator[Written]:
        """The text after each token, the finished one last.

        `generate` runs in a thread. Closing this iterator stops it at the next token; an error in it is raised here.
        """
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        job = _Job(self, prompt, sampling, streamer)
        job.start()
        text = ""
        try:
            for piece in streamer:  # of words: a token that may be half of one comes with the rest
                text += piece
                yield Written(text, ended=False)
            job.join()
        finally:
            job.stopped.set()
        if job.error is not None:
            raise job.error
        yield Written(text, job.ended)

    @torch.inference_mode()
    def _generate(self, prompt: list[int], sampling: Sampling, **options: object) -> list[int]:
        """The tokens after the prompt."""
        input_ids = torch.tensor([prompt], device=self.model.device)  # (1, T)
        end = self.tokenizer.eos_token_id
        with self._busy:
            if sampling.seed < 0:
                torch.seed()
            else:
                torch.manual_seed(sampling.seed)
            output = self.model.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=min(sampling.max_new_tokens, self.context - len(prompt)),
                eos_token_id=end,
                pad_token_id=end,
                repetition_penalty=float(sampling.repetition_penalty),
                **_choice(sampling),
                **options,
            )
        return output[0, len(prompt) :].tolist()


class _Job(threading.Thread):
    """One text being written; `ended` and `error` hold once it is over."""

    def __init__(self, writer: Writer, prompt: list[int], sampling: Sampling, streamer: TextIteratorStreamer):
        super().__init__(name="writer", daemon=True)
        self.writer, self.prompt, self.sampling, self.streamer = writer, prompt, sampling, streamer
        self.stopped = threading.Event()
        self.ended = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            criteria = StoppingCriteriaList([_StopWhenSet(self.stopped)])
            written = self.writer._generate(
                self.prompt, self.sampling, streamer=self.streamer, stopping_criteria=criteria
            )
            self.ended = written[-1:] == [self.writer.tokenizer.eos_token_id]
        except Exception as error:  # whatever it is, the one who waits for the text must hear of it
            self.error = error
            self.streamer.end()


class _StopWhenSet(StoppingCriteria):
    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        return torch.full(input_ids.shape[:1], self.event.is_set(), dtype=torch.bool, device=input_ids.device)


def _choice(sampling: Sampling) -> dict[str, object]:
    if sampling.temperature == 0:
        return {"do_sample": False}
    # A page sends 1 for 1.0, which `generate` refuses.
    chosen = {"temperature": float(sampling.temperature), "top_p": float(sampling.top_p), "top_k": sampling.top_k}
    return {"do_sample": True, **chosen}
