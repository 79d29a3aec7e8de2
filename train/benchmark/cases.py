"""The cases that are measured: a model size, a kind of work, and settings of the Trainer."""

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal


@dataclass(frozen=True)
class ModelSize:
    """Of a GPT-2 with the vocabulary of 50,257."""

    name: str
    n_layer: int
    n_head: int
    n_embd: int


GPT2_124M = ModelSize("124M", n_layer=12, n_head=12, n_embd=768)
SMALL = ModelSize("small", n_layer=4, n_head=4, n_embd=256)


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Args:
        work: "train" is a whole optimizer step under the Trainer (clipping and logging on), "evaluate" is
            `Trainer.evaluate` on one batch, "generate" is greedy text with a cache, "prepare" is from rows to sequences
            of tokens, beside `tokenizers` alone.
        batch: sequences of one process.
        length: tokens of a sequence; in "generate" those of the prompt.
        new_tokens: written in "generate".
        steps_per_turn: repetitions timed together, so that a device is not waited for after each of them.
        turns: of each side; the first `WARM_UP_TURNS` do not count.
    """

    model: ModelSize
    work: Literal["train", "evaluate", "generate", "prepare"]
    batch: int
    length: int
    dropout: float = 0.0
    bf16: bool = False
    compiled: bool = False
    attention: str = "sdpa"
    new_tokens: int = 0
    steps_per_turn: int = 1
    turns: int = 8

    @property
    def name(self) -> str:
        if self.work == "prepare":
            return "prepare (beside tokenizers alone)"
        size = f"{self.batch} x {self.length}" + (f" + {self.new_tokens}" if self.new_tokens else "")
        words = [self.work, self.model.name, size]
        if self.work == "train":
            words.append(f"dropout {self.dropout:g}")
        words += [word for word, on in (("bf16", self.bf16), ("compiled", self.compiled)) if on]
        if self.attention != "sdpa":
            words.append(self.attention)
        return ", ".join(words)


# Memory that is asked for the first time is slow; so are the first steps of a compiled model.
WARM_UP_TURNS = 2


def cases_for_cpu(quick: bool) -> list[Case]:
    """fp32 on CPUs: training with and without dropout, evaluation, generation, preparing data."""
    turns = 6 if quick else 10
    small = Case(SMALL, "train", 8, 256, dropout=0.1, turns=turns)
    prepare = Case(SMALL, "prepare", 1, 1024, turns=turns)
    if quick:
        generate = Case(SMALL, "generate", 1, 64, new_tokens=128, turns=turns)
        return [small, Case(SMALL, "evaluate", 8, 256, turns=turns), generate, prepare]
    return [
        *(Case(GPT2_124M, "train", 4, 512, dropout=dropout, turns=7) for dropout in (0.0, 0.1)),
        small,
        Case(GPT2_124M, "evaluate", 8, 1024, turns=6),
        *(Case(GPT2_124M, "generate", batch, 64, new_tokens=128, turns=7) for batch in (1, 8)),
        prepare,
    ]


def cases_for_gpu(quick: bool) -> list[Case]:
    """bf16 on a GPU: eager, compiled, other attention kernels, evaluation, generation."""
    train = Case(GPT2_124M, "train", 32, 1024, bf16=True, steps_per_turn=10, turns=5 if quick else 8)
    cases = [train, dataclasses.replace(train, compiled=True)]
    if quick:
        return cases
    if find_spec("flash_attn") is not None:
        cases.append(dataclasses.replace(train, attention="flash_attention_2"))
    return [
        *cases,
        dataclasses.replace(train, dropout=0.1),
        dataclasses.replace(train, work="evaluate"),
        *(Case(GPT2_124M, "generate", batch, 64, new_tokens=128) for batch in (1, 8)),
    ]


def sweep(is_gpu: bool) -> list[Case]:
    """Training at growing lengths with one batch, and at growing batches with one length."""
    if is_gpu:
        base = Case(GPT2_124M, "train", 8, 1024, bf16=True, compiled=True, steps_per_turn=10, turns=5)
        lengths, batches = [128, 256, 512, 1024, 2048], [1, 2, 4, 8, 16, 32, 64]
    else:
        base = Case(SMALL, "train", 4, 256, dropout=0.1, turns=5)
        lengths, batches = [64, 128, 256, 512, 1024], [1, 2, 4, 8, 16]
    by_length = [dataclasses.replace(base, length=length) for length in lengths]
    by_batch = [dataclasses.replace(base, batch=batch) for batch in batches]
    return list(dict.fromkeys([*by_length, *by_batch]))
