"""The check before anything is published: the staged folders, opened as a stranger opens them.

Where this package is installed, its classes win over a folder's own code, even with `trust_remote_code=True`. So the
folders are opened in a child process that cannot import it (see `loading_check.py`), with empty caches and no network.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer

from hub_card.staging import MAIN_BRANCH, STOCK_BRANCH, open_model


PROMPT = "Q: What is this?"
KEPT_POSITIONS = 64  # whose logits are compared; they depend on all positions before
NEW_TOKENS = 8
STOCK_TOLERANCE = 1e-3  # in logits; float32 sums in another order differ by about 1e-5, a wrong layer by more than 1


class VerificationError(RuntimeError):
    """What is staged does not open, or is not the model of the run."""


def verify(run: Path, branches: dict[str, Path]) -> None:
    """Compare the staged folders with the run's model, as this process has it.

    Args:
        branches: the folder of each branch.

    Raises:
        VerificationError: a folder does not open, or computes something else (see `compare`).
    """
    model, tokenizer = open_model(run), AutoTokenizer.from_pretrained(run)
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(model.config.vocab_size, (1, model.config.n_positions), generator=generator)
    prompt_tokens = max(1, model.config.n_positions // 2)  # at most: the rest of the context is to be written
    prompt = tokenizer(PROMPT, return_tensors="pt")["input_ids"][:, :prompt_tokens]
    new_tokens = min(NEW_TOKENS, model.config.n_positions - prompt.shape[1])
    with torch.no_grad():
        logits = model(input_ids, logits_to_keep=KEPT_POSITIONS).logits
        written = model.generate(prompt, max_new_tokens=new_tokens, do_sample=False)[0].tolist()

    request = {
        "folders": {branch: str(folder.resolve()) for branch, folder in branches.items()},
        "input_ids": input_ids.tolist(),
        "prompt": PROMPT,
        "kept_positions": KEPT_POSITIONS,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "threads": torch.get_num_threads(),  # other threads would add in another order
    }
    compare(open_as_a_stranger(request), logits, written)


def compare(answers: dict[str, tuple[Tensor, list[int]]], logits: Tensor, written: list[int]) -> None:
    """Compare each branch's logits, (1, positions, V), and the tokens that it wrote with the run's.

    Raises:
        VerificationError: `main` differs at all, or the stock export by more than rounding.
    """
    found, found_written = answers[MAIN_BRANCH]
    if not torch.equal(found, logits) or found_written != written:
        raise VerificationError(
            f"The staged model is not the run's: {_describe_difference(found, logits)}. Either its files were changed "
            "since they were staged, or this package's code since the run, and computes something else now."
        )
    if STOCK_BRANCH in answers:
        stock, _ = answers[STOCK_BRANCH]
        # Written so that NaN fails, too.
        if stock.shape != logits.shape or not (stock - logits).abs().max() <= STOCK_TOLERANCE:
            raise VerificationError(
                "The stock GPT-2 export computes something else than the run's model: "
                f"{_describe_difference(stock, logits)} (allowed: {STOCK_TOLERANCE:.3g})."
            )


def _describe_difference(found: Tensor, logits: Tensor) -> str:
    if found.shape != logits.shape:
        return f"logits are {tuple(found.shape)}, not {tuple(logits.shape)}"
    return f"logits differ by {(found - logits).abs().max().item():.3g}"


def open_as_a_stranger(request: dict) -> dict[str, tuple[Tensor, list[int]]]:
    """Run `loading_check.py` on the folders; returns each one's logits and the tokens that it wrote.

    Raises:
        VerificationError: one of them does not open or does not write; the message ends with the error's last line.
    """
    check = Path(__file__).with_name("loading_check.py").resolve()
    with tempfile.TemporaryDirectory(prefix="hub_card_check_") as work:
        (Path(work) / "request.json").write_text(json.dumps(request), encoding="utf-8")
        dropped = {"PYTHONPATH", "HF_MODULES_CACHE", "TRANSFORMERS_CACHE", "HF_HUB_CACHE"}
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        environment |= {"HF_HOME": str(Path(work) / "home"), "HF_HUB_OFFLINE": "1"}
        # -P: the check's own folder, with this package's files, is not searched for modules.
        command = [sys.executable, "-P", str(check), work]
        finished = subprocess.run(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if finished.returncode != 0:
            reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
            raise VerificationError(f"What is staged does not open where this package is not installed: {reason}")
        logits = load_file(Path(work) / "logits.safetensors")
        written = json.loads((Path(work) / "written.json").read_text(encoding="utf-8"))
    return {branch: (logits[branch], written[branch]) for branch in request["folders"]}
