"""The files that a post-training run left in its folder, for the tests of several methods."""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from train.data.rows.synth import question_to_ids


def history(folder: Path, name: str, where: str | None = None) -> list[float]:
    """The values logged under a name, in order; with `where`, only beside that other name."""
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in log if name in entry and (where or name) in entry]


def greedy_answer(folder: Path, question: str) -> str:
    """The text that the model writes, always the likeliest token, in at most eight."""
    model, tokenizer = GPT2ScratchForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = torch.tensor([question_to_ids(f"Q: {question}", tokenizer)])
    written = model.generate(asked, attention_mask=torch.ones_like(asked), max_new_tokens=8, do_sample=False)
    return tokenizer.decode(written[0, asked.shape[1] :])


def check_equal_runs(one: Path, other: Path, names: tuple[str, ...]) -> None:
    """The values logged under these names, and the weights, are equal bit for bit."""
    for name in names:
        assert history(one, name), name
        assert history(one, name) == history(other, name), name
    ours, theirs = (GPT2ScratchForCausalLM.from_pretrained(folder).state_dict() for folder in (one, other))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
