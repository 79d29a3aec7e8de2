"""The notebook runs from top to bottom; all notebooks lie in the repository without outputs."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


LONGEST_CELL = 10
SMALL = """
RECIPE, RUN, MORE, LAUNCH = {recipe!r}, {run!r}, ["--max_steps", "6"], "python"
QUESTIONS = ["What follows 3?"]
"""


@pytest.mark.parametrize("file", ["train/notebooks/pretrain.ipynb", "modeling_gpt2scratch/look_inside.ipynb"])
def test_it_lies_there_without_outputs_and_reads_well(repository, file):
    notebook = nbformat.read(repository / file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert [cell.id for cell in code if len(cell.source.splitlines()) > LONGEST_CELL] == []


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(repository, tiny_recipe, tmp_path, monkeypatch):
    notebook = nbformat.read(repository / "train/notebooks/pretrain.ipynb", as_version=4)
    # A kernel of this interpreter, whose commands are those of its own environment, with this checkout.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    cells = {cell.id: cell for cell in notebook.cells}
    cells["settings"].source = SMALL.format(recipe=str(tiny_recipe), run=str(tmp_path / "run"))
    cells["publish"].source = cells["publish"].source.replace("]);", ', "--without_hf_gpt2"]);')
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(repository)}}).execute()

    shown = {id: "".join(str(output) for output in cell.get("outputs", [])) for id, cell in cells.items()}
    assert "What follows 0?" in shown["rows"]
    assert "Validation loss" in shown["train"]
    assert "image/png" in shown["curve"]
    assert "srcdoc" in shown["report"]
    assert "What follows 3?" in shown["chat"]
    assert "loss" in shown["evaluate"]
    assert "you/my-gpt2" in shown["publish"]
