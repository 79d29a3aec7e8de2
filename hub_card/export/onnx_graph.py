"""A GPT-2 as an ONNX graph with a key-value cache, in the form that transformers.js and Optimum run.

    input_ids, position_ids (B, T), attention_mask (B, S), past_key_values.N.key and .value (B, H, S - T, D)
    -> logits (B, T, V), present.N.key and .value (B, H, S, D)

Its nodes are in `gpt2_graph.jinja`, in ONNX's own syntax. A graph that torch traces is larger, and its head has a
second copy of the embedding. In 8 bits, the weights of one output share a scale, and so do all inputs of a product.
"""

from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from onnx import numpy_helper, parser
from transformers import GPT2LMHeadModel


TEMPLATE = "gpt2_graph.jinja"
MOST = 127  # of the whole numbers that stand for weights in 8 bits
MOST_BYTES = 2**31 - 1  # of one ONNX file


def write_graph(model: GPT2LMHeadModel, file: Path, eight_bits: bool) -> None:
    """Write the graph with its weights; a `ValueError` where they are more than an ONNX file can hold."""
    weights = {
        name.removeprefix("transformer."): weight.float().numpy(force=True)
        for name, weight in model.state_dict().items()
    }
    head = "lm_head.weight"
    if model.config.tie_word_embeddings:
        del weights[head]
        head = "wte.weight"
    tensors: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        if eight_bits and weight.ndim == 2 and name != "wpe.weight":
            codes, scales = quantise(weight, axis=1 if name in (head, "wte.weight") else 0)
            tensors |= {f"{name}.codes": codes, f"{name}.scales": scales}
        else:
            tensors[name] = weight
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined)
    text = environment.get_template(TEMPLATE).render(config=model.config, head=head, eight_bits=eight_bits)
    graph = parser.parse_model(text)
    graph.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in tensors.items())
    if graph.ByteSize() > MOST_BYTES:
        raise ValueError(f"{file.name} would have {graph.ByteSize():,} bytes, and {MOST_BYTES:,} are the limit.")
    file.write_bytes(graph.SerializeToString())


def quantise(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers in a weight's shape, and their scales: one for all along `axis`."""
    scales = np.maximum(np.abs(weight).max(axis=axis, keepdims=True) / MOST, np.finfo(np.float32).tiny)
    return np.rint(weight / scales).astype(np.int8), scales.squeeze(axis)
