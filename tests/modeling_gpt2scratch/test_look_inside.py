"""The notebook that looks inside a model runs from top to bottom, and draws its pictures."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from modeling_gpt2scratch import GPT2ScratchForCausalLM


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tiny_config, tokenizer, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    tiny_config.vocab_size = len(tokenizer)
    GPT2ScratchForCausalLM(tiny_config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    notebook = nbformat.read(repository / "modeling_gpt2scratch" / "look_inside.ipynb", as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["settings"].source = cells["settings"].source.replace("runs/demo", str(tmp_path))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(repository)}}).execute()

    shown = {id: "".join(str(output) for output in cell.get("outputs", [])) for id, cell in cells.items()}
    tokens = len(tokenizer("Q: What is 47 + 38?")["input_ids"]) + 40
    assert f"(1, {tokens}, {tiny_config.feed_forward_size})" in shown["shapes"]
    assert all("image/png" in shown[id] for id in ("attention", "one-head", "lens-picture", "off-picture"))
    assert "What is 47 + 38?" in shown["off-answer"]
