"""The cases that are measured: a model size, a kind of work, and settings of the Trainer."""

from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Literal

import torch

from train.hardware import has_bf16_units


Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class ModelSize:
    """Of a GPT-2 with the vocabulary of 50,257."""

    name: str
    n_layer: int
    n_head: int
    n_embd: int


GPT2_124M = ModelSize("124M", n_layer=12, n_head=12, n_embd=768)
SMALL = ModelSize("small", n_layer=4, n_head=4, n_embd=256)
TINY = ModelSize("tiny", n_layer=2, n_head=2, n_embd=32)

SIDES = ("ours", "transformers")
# Kernels of attention: those of SDPA, and the flash attention packages with the module that each needs. The first is a
# value of transformers' attn_implementation, the others replace the one of SDPA.
SDPA_KERNELS = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
    "cudnn": "CUDNN_ATTENTION",
}
PACKAGES = {"FA2": "flash_attn", "FA3": "flash_attn_interface", "FA4": "flash_attn.cute"}


# What prepares data on the other side.
BESIDE = {"prepare": "tokenizers alone", "prepare_text": "datasets.map"}


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Args:
        work: "train" is a whole optimizer step under the Trainer (clipping and logging on), "evaluate" is
            `Trainer.evaluate` on one batch, "generate" is greedy text with a cache, "prepare" is from SYNTH's rows to
            sequences of tokens, beside `tokenizers` alone, and "prepare_text" from a column `text`, beside
            `datasets.map` with the same tokenizer; "recipe" is `train/pretrain.py` with the recipe of 10 B tokens, from
            the rows to the loss, "resume" is the same killed and resumed, both on our side only.
        batch: sequences of one process.
        length: tokens of a sequence; in "generate" those of the prompt.
        precision: of the matrix products.
        kernel: of attention, one of `SDPA_KERNELS` or `PACKAGES`; by default torch chooses one of SDPA's.
        new_tokens: written in "generate".
        steps_per_turn: repetitions timed together, so that a device is not waited for after each of them.
        turns: of each side; the first `WARM_UP_TURNS` do not count.
    """

    model: ModelSize
    work: Literal["train", "evaluate", "generate", "prepare", "prepare_text", "recipe", "resume"]
    batch: int
    length: int
    dropout: float = 0.0
    precision: Precision = "float32"
    compiled: bool = False
    kernel: str = ""
    new_tokens: int = 0
    steps_per_turn: int = 1
    turns: int = 8
    sides: tuple[str, ...] = SIDES

    @property
    def name(self) -> str:
        if self.work in BESIDE:
            return f"{self.work.replace('_', ' ')} (beside {BESIDE[self.work]})"
        size = f"{self.batch} x {self.length}" + (f" + {self.new_tokens}" if self.new_tokens else "")
        words = [self.work, self.model.name, size]
        if self.work == "train":
            words.append(f"dropout {self.dropout:g}")
        words += [{"float32": "", "bfloat16": "bf16", "float16": "fp16"}[self.precision]]
        words += ["compiled" * self.compiled, f"{self.kernel} attention" * bool(self.kernel)]
        return ", ".join(filter(None, words))

    @property
    def model_settings(self) -> dict:
        """Of both sides' configs."""
        sizes = {name: value for name, value in asdict(self.model).items() if name != "name"}
        dropouts = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), self.dropout)
        positions = max(self.length + self.new_tokens, 1024 if self.work == "generate" else 0)
        return {**sizes, **dropouts, "n_positions": positions}

    @property
    def attn_implementation(self) -> str:
        return "flash_attention_2" if self.kernel == "FA2" else "sdpa"

    def unsuited_to(self, device: torch.device) -> str | None:
        """Why it cannot be measured on a device, if so."""
        if self.precision == "float16" and device.type == "cpu":
            return "fp16 needs a GPU"
        if self.kernel not in ("", "flash", "math") and device.type != "cuda":
            return "a kernel for CUDA"
        package = PACKAGES.get(self.kernel)
        return f"{package} is not installed" if package and not _is_installed(package) else None


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


# Memory that is asked for the first time is slow; so are the first steps of a compiled model.
WARM_UP_TURNS = 2


def cases_for_cpu(quick: bool) -> list[Case]:
    """On CPUs: training with and without dropout, evaluation, generation, preparing data; in float32, and training in
    bf16, too, on a processor that has units for it."""
    turns = 6 if quick else 10
    small = Case(SMALL, "train", 8, 256, dropout=0.1, turns=turns)
    prepare = [Case(SMALL, "prepare", 1, 1024, turns=turns), Case(SMALL, "prepare_text", 1, 1024, turns=turns)]
    precisions: list[Precision] = ["float32", "bfloat16"] if has_bf16_units() else ["float32"]
    if quick:
        generate = Case(SMALL, "generate", 1, 64, new_tokens=128, turns=turns)
        trained = [replace(small, precision=precision) for precision in precisions]
        return [*trained, Case(SMALL, "evaluate", 8, 256, turns=turns), generate, *prepare]
    return [
        *(
            Case(GPT2_124M, "train", 4, 512, dropout=dropout, precision=precision, turns=7)
            for precision in precisions
            for dropout in (0.0, 0.1)
        ),
        small,
        Case(GPT2_124M, "evaluate", 8, 1024, turns=6),
        *(Case(GPT2_124M, "generate", batch, 64, new_tokens=128, turns=7) for batch in (1, 8)),
        *prepare,
    ]


def cases_for_gpu(quick: bool, base: Case) -> list[Case]:
    """What GPUs differ in: eager and compiled, kernels, precisions; evaluation, generation, and whole runs. `base` is
    a training step, whose sizes the others have."""
    cases = [base, replace(base, compiled=True)]
    if quick:
        return cases
    generate = Case(base.model, "generate", 1, base.length // 16, new_tokens=base.length // 8, turns=base.turns)
    whole = replace(base, sides=SIDES[:1], turns=WARM_UP_TURNS + 4)
    return list(
        dict.fromkeys(
            [
                *cases,
                *(replace(base, kernel=kernel, sides=SIDES[:1]) for kernel in (*SDPA_KERNELS, *PACKAGES)),
                replace(base, precision="float16"),
                replace(base, dropout=0.1),
                replace(base, work="evaluate"),
                generate,
                replace(generate, batch=8),
                replace(whole, work="recipe", compiled=True, steps_per_turn=max(1, base.steps_per_turn // 2)),
                replace(whole, work="resume", batch=max(1, base.batch // 4)),
            ]
        )
    )


def gpu_base(device: torch.device, rehearsal: bool) -> Case:
    """The training step that the cases for GPUs are made from: GPT-2 124M, with a batch that fits the device."""
    is_cuda = device.type == "cuda"
    has_bf16 = not is_cuda or torch.cuda.is_bf16_supported(including_emulation=False)
    precision: Precision = "bfloat16" if has_bf16 else "float16"
    if rehearsal:
        return Case(TINY, "train", 2, 64, precision=precision, turns=WARM_UP_TURNS + 1)
    is_large = is_cuda and torch.cuda.get_device_properties(device).total_memory > 60e9
    return Case(GPT2_124M, "train", 32 if is_large else 8, 1024, precision=precision, steps_per_turn=10, turns=6)


def sweep(base: Case, lengths: range = range(-2, 3), batches: range = range(-2, 3)) -> list[Case]:
    """Training at growing lengths with one batch, and at growing batches with one length, in which the fastest
    micro-batch is found; each is a power of two times that of `base`."""
    by_length = [replace(base, length=int(base.length * 2.0**power)) for power in lengths]
    by_batch = [replace(base, batch=int(base.batch * 2.0**power)) for power in batches]
    return list(dict.fromkeys(case for case in [*by_length, *by_batch] if case.batch))


def choose_cases(
    device: torch.device, quick: bool = False, swept: bool = False, rehearsal: bool = False
) -> tuple[list[Case], list[Case]]:
    """The cases of the table, and those of the sweep, which GPUs have by themselves unless `quick`."""
    if device.type == "cpu" and not rehearsal:
        small = Case(SMALL, "train", 4, 256, dropout=0.1, turns=5)
        return cases_for_cpu(quick), sweep(small) if swept else []
    base = gpu_base(device, rehearsal)
    batch, steps = max(1, base.batch // 4), max(1, base.steps_per_turn // 2)
    swept_base = replace(base, batch=batch, steps_per_turn=steps, turns=WARM_UP_TURNS + 2)
    growing = sweep(swept_base, lengths=range(-3, 2), batches=range(-3, 5))
    return cases_for_gpu(quick, base), growing if swept or not quick else []
