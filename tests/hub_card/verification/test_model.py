"""A staged folder that is not the run's model, or does not open, is found before it is published."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_card.staging import stage
from hub_card.verification.model import VerificationError, compare, verify


@pytest.fixture
def staged(finished_run, tmp_path):
    return stage(finished_run, tmp_path, "you/tiny")


def change_weight(folder, name: str, amount: float) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights[name].view(-1)[0] += amount
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.slow
def test_one_changed_weight_is_found(finished_run, staged):
    change_weight(staged["main"], "transformer.blocks.1.feed_forward.up_proj.weight", 0.01)
    before = {path for folder in staged.values() for path in folder.rglob("*")}
    with pytest.raises(VerificationError, match="is not the run's: logits differ by"):
        verify(finished_run, staged)
    # Opening the folders leaves nothing in them, such as compiled code.
    assert {path for folder in staged.values() for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_a_missing_code_file_is_found(finished_run, staged):
    (staged["main"] / "gelu.py").unlink()
    with pytest.raises(VerificationError, match=r"does not open.*gelu"):
        verify(finished_run, staged)


@pytest.mark.slow
def test_code_that_needs_the_package_is_found(finished_run, staged):
    code = staged["main"] / "gelu.py"
    code.write_text("import modeling_gpt2scratch\n" + code.read_text())
    with pytest.raises(VerificationError, match="modeling_gpt2scratch"):
        verify(finished_run, staged)


LOGITS = torch.arange(12.0).view(1, 3, 4)


def compare_with(main: torch.Tensor, stock: torch.Tensor, written: list[int]) -> None:
    compare({"main": (main, written), "gpt2": (stock, [9])}, LOGITS, [1, 2])


def test_main_is_to_be_equal_and_the_stock_export_close():
    compare_with(LOGITS, LOGITS + 1e-5, [1, 2])
    compare({"main": (LOGITS, [1, 2])}, LOGITS, [1, 2])
    with pytest.raises(VerificationError, match="is not the run's"):
        compare_with(LOGITS + 1e-5, LOGITS, [1, 2])
    with pytest.raises(VerificationError, match="is not the run's"):
        compare_with(LOGITS, LOGITS, [1, 3])
    with pytest.raises(VerificationError, match=r"logits are \(1, 2, 4\), not \(1, 3, 4\)"):
        compare_with(LOGITS[:, :2], LOGITS, [1, 2])


@pytest.mark.parametrize("stock", [LOGITS + 0.01, LOGITS * float("nan"), LOGITS[:, :2]])
def test_a_stock_export_that_differs_is_found(stock):
    with pytest.raises(VerificationError, match="stock GPT-2 export computes something else"):
        compare_with(LOGITS, stock, [1, 2])
