"""Compares staged folders with the run's model: a script that `verify.py` runs in a child process.

    check_model.py THREADS FOLDER...

The current folder holds `expected.safetensors`: what `compute` gives for the run's model.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerBase


PROMPT = "Q: What is this?"
KEPT_POSITIONS = 64  # whose logits are compared; they depend on all positions before
NEW_TOKENS = 8
TOLERANCE = 1e-3  # in logits of the export: sums in another order differ by about 1e-5, a wrong layer by more than 1


@torch.no_grad()
def compute(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Logits on a full context of random tokens, (1, positions, V), and the tokens that the model writes, (1, T)."""
    vocabulary, context = model.config.vocab_size, model.config.max_position_embeddings
    input_ids = torch.randint(vocabulary, (1, context), generator=torch.Generator().manual_seed(0))
    prompt = tokenizer(PROMPT, return_tensors="pt")["input_ids"][:, : max(1, context // 2)]
    new_tokens = min(NEW_TOKENS, context - prompt.shape[1])
    return {
        "logits": model(input_ids, logits_to_keep=KEPT_POSITIONS).logits.contiguous(),
        "written": model.generate(prompt, max_new_tokens=new_tokens, do_sample=False),
    }


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], is_export: bool) -> None:
    """Raises a ValueError where they differ; the logits of the export, Hugging Face's GPT-2, may do so by rounding."""
    logits, wanted = found["logits"], expected["logits"]
    if logits.shape != wanted.shape:
        raise ValueError(f"Logits are {tuple(logits.shape)}, not {tuple(wanted.shape)}.")
    difference = (logits - wanted).abs().max().item()
    if is_export and not difference <= TOLERANCE:  # so written, NaN fails, too
        raise ValueError(f"The export's logits differ from the run's by {difference:.3g} (allowed: {TOLERANCE:.3g}).")
    if not is_export and not (torch.equal(logits, wanted) and torch.equal(found["written"], expected["written"])):
        raise ValueError(
            f"The staged model is not the run's: logits differ by {difference:.3g}. Either its files have changed "
            "since they were staged, or this package's code has changed since the run."
        )


def main(threads: str, *folders: str) -> None:
    torch.set_num_threads(int(threads))
    expected = load_file("expected.safetensors")
    for folder in folders:
        is_export = Path(folder).name == "gpt2"
        # The export has to open without trust. The tokenizer has no code, but opens the model's config, which has.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=not is_export)
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=not is_export).eval()
        if is_export and type(model) is not GPT2LMHeadModel:
            raise TypeError(f"{folder} opens as {type(model).__name__}, not as GPT2LMHeadModel")
        compare(compute(model, tokenizer), expected, is_export)


if __name__ == "__main__":
    main(*sys.argv[1:])
