"""A staged folder that is not the run's model, or does not open, is found before it is published."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from hub_card.export.onnx_graph import write_graph
from hub_card.staging import stage
from hub_card.verification import verify
from hub_card.verification.check_model import compare
from hub_card.verification.verify import verify_model
from hub_card.verification.without_project import VerificationError


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
        verify_model(finished_run, staged)
    # Opening the folders leaves nothing in them, such as compiled code.
    assert {path for folder in staged.values() for path in folder.rglob("*")} == before


@pytest.mark.slow
def test_code_that_needs_the_package_is_found(finished_run, staged):
    code = staged["main"] / "gelu.py"
    code.write_text("import modeling_gpt2scratch\n" + code.read_text())
    with pytest.raises(VerificationError, match="modeling_gpt2scratch"):
        verify_model(finished_run, staged)


def test_a_graph_of_another_model_is_found(finished_run, staged, monkeypatch):
    monkeypatch.setattr(verify, "run_without_project", lambda *_, **__: None)
    verify_model(finished_run, staged)
    model = GPT2LMHeadModel.from_pretrained(staged["gpt2"]).eval()
    model.transformer.ln_f.bias.data[0] += 100
    write_graph(model, staged["gpt2"] / "onnx" / "model.onnx", eight_bits=False)
    with pytest.raises(VerificationError, match="tokens as the model does"):
        verify_model(finished_run, staged)


LOGITS = torch.arange(12.0).view(1, 3, 4)


def compare_with(logits: torch.Tensor, written: int = 2, is_export: bool = False) -> None:
    expected = {"logits": LOGITS, "written": torch.tensor([1, 2])}
    compare({"logits": logits, "written": torch.tensor([1, written])}, expected, is_export)


def test_main_is_to_be_equal_and_the_export_close():
    compare_with(LOGITS)
    compare_with(LOGITS + 1e-5, written=9, is_export=True)
    with pytest.raises(ValueError, match="is not the run's"):
        compare_with(LOGITS + 1e-5)
    with pytest.raises(ValueError, match="is not the run's"):
        compare_with(LOGITS, written=3)
    with pytest.raises(ValueError, match=r"Logits are \(1, 2, 4\), not \(1, 3, 4\)"):
        compare_with(LOGITS[:, :2])


@pytest.mark.parametrize("logits", [LOGITS + 0.01, LOGITS * float("nan"), LOGITS[:, :2]])
def test_an_export_that_differs_is_found(logits):
    with pytest.raises(ValueError, match=r"export's logits differ|Logits are"):
        compare_with(logits, is_export=True)
