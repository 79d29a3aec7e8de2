"""ONNX Runtime: torch's exporter makes a graph of our model, and of the export, for any batch and length; with an own
tokenizer, too."""

import onnxruntime
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tools.conftest import MOST


class Logits(torch.nn.Module):
    """Token ids in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids, use_cache=False).logits


def export(model, file):
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", max=1024)
    torch.onnx.export(
        Logits(model).eval(),
        (torch.randint(model.config.vocab_size, (2, 12)),),
        file,
        dynamo=True,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: batch, 1: length}},
        external_data=False,
    )
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("layout", ["custom, own tokenizer", "exported"])
def test_it_continues_prompts_alike(layout, own, exported_folder, answers, tokenizer, tmp_path):
    if layout != "exported":
        exported_folder, tokenizer = own.custom, own.tokenizer
    model = AutoModelForCausalLM.from_pretrained(exported_folder).eval()
    session = export(model, tmp_path / "model.onnx")
    for prompt, answer in answers.items():
        ids = tokenizer(prompt)["input_ids"]
        start = len(ids)
        while ids[-1] != tokenizer.eos_token_id and len(ids) < start + MOST:
            (logits,) = session.run(None, {"input_ids": [ids]})
            ids.append(int(logits[0, -1].argmax()))
        assert tokenizer.decode(ids[start:-1]) == answer
    batch = torch.randint(model.config.vocab_size, (3, 70))
    (logits,) = session.run(None, {"input_ids": batch.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(batch).logits, atol=1e-4, rtol=1e-4)
