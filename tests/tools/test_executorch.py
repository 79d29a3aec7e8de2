"""ExecuTorch with XNNPACK: right on the export; on the folder its GELU is not ours, but the answers stay."""

import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime
from transformers import AutoModelForCausalLM

from tests.tools.conftest import PROMPTS


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "least", "most"), [("exported_folder", 0, 1e-4), ("custom_folder", 1e-4, 2e-2)])
def test_the_logits(layout, least, most, request, tokenizer):
    """The lower bound of the folder's error: to be told when XNNPACK's partitioner reads `approximate="tanh"`."""
    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(layout), use_cache=False)
    ids = tokenizer(PROMPTS[0], return_tensors="pt")["input_ids"]

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids):
            return self.model(input_ids, use_cache=False).logits

    with torch.no_grad():
        expected = model(ids).logits
        exported = torch.export.export(Logits(), (ids,), strict=False)
        program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    method = Runtime.get().load_program(program.buffer).load_method("forward")
    error = (method.execute([ids])[0] - expected).abs().max().item()
    assert least <= error < most
