"""The checks before an upload: what is staged works on a machine that has never seen this project."""

import logging
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from hub_card.export.formats import ONNX_FILES, ONNX_FOLDER, compare
from hub_card.staging import EXPORT_BRANCH, open_model
from hub_card.verification.check_model import compute
from hub_card.verification.without_project import run_without_project
from train.evaluation import opened_model


logger = logging.getLogger(__name__)

MOST_QUESTIONS = 20  # to compare graphs on


def verify_model(run: Path, branches: dict[str, Path]) -> None:
    """Compare the staged folder of each branch, opened in a child process, with the run's model in this process; a
    VerificationError where one does not open, or computes something else. Graphs are compared by what they write."""
    expected = compute(*open_model(run))
    with tempfile.TemporaryDirectory(prefix="hub_card_check_") as work:
        save_file(expected, Path(work) / "expected.safetensors")
        # As elsewhere: no network, and nothing kept from earlier. Other threads would add in another order.
        threads = str(torch.get_num_threads())
        folders = [str(folder.resolve()) for folder in branches.values()]
        alone = {"HF_HOME": f"{work}/hf", "HF_HUB_CACHE": f"{work}/hf/hub", "HF_HUB_OFFLINE": "1"}
        run_without_project("check_model.py", threads, *folders, folder=Path(work), environment=alone)
    onnx_folder = branches.get(EXPORT_BRANCH, Path()) / ONNX_FOLDER
    graphs = {precision: onnx_folder / name for precision, name in ONNX_FILES.items() if (onnx_folder / name).is_file()}
    if graphs:
        logger.info("%s", "\n".join(compare(opened_model.open_model(str(run)), graphs, MOST_QUESTIONS)))
