import logging
import os
import re
from types import SimpleNamespace

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.cpu_kernels import FastDropout
from train.hardware import RETURNED_BYTES, return_freed_memory, set_up_hardware, set_up_model


CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def put_threads_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def training(**settings):
    return SimpleNamespace(**{"device": CPU, "world_size": 1, "bf16": False, "fp16": False, **settings})


def threads_of(cpu_threads=None):
    set_up_hardware(training(), cpu_threads=cpu_threads, tokens_per_step=1)
    return torch.get_num_threads()


def test_all_cores_are_used_whatever_the_launcher_left():
    torch.set_num_threads(1)
    assert threads_of() == len(os.sched_getaffinity(0))


def test_the_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert threads_of() == 1


def test_the_number_of_threads_can_be_set():
    assert threads_of(cpu_threads=3) == 3


@pytest.mark.parametrize(
    ("found", "settings", "described", "warned"),
    [
        ({"amx_bf16": True}, {}, "float32 .*--bf16 true would be faster", False),
        ({"avx512_bf16": True}, {}, "float32 .*--bf16 true would be faster", False),
        ({"amx_bf16": True}, {"bf16": True}, "bf16$", False),
        ({"amx_bf16": True}, {"device": torch.device("cuda")}, "float32 .*--bf16 true would be several times", False),
        ({"amx_bf16": False}, {"device": torch.device("cuda")}, "float32 .*--fp16 true would be several times", False),
        ({"amx_bf16": False}, {}, "float32$", False),
        ({"amx_bf16": False}, {"bf16": True}, "bf16 .*without --bf16 it would be faster", True),
        ({"amx_bf16": False}, {"bf16": True, "device": torch.device("cuda")}, "bf16$", False),
        ({"architecture": "aarch64"}, {}, "float32$", False),
        ({"architecture": "aarch64"}, {"bf16": True}, "bf16$", False),
    ],
)
def test_the_log_tells_which_precision_is_faster_on_this_processor(
    found, settings, described, warned, monkeypatch, caplog
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **found})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: found["amx_bf16"])
    with caplog.at_level(logging.INFO, "train.hardware"):
        set_up_hardware(training(**settings), cpu_threads=1, tokens_per_step=1)
    assert re.search(f"1 tokens per step, in {described}", caplog.text.strip())
    assert (caplog.records[0].levelno == logging.WARNING) == warned


@pytest.mark.parametrize(("n_embd", "returned"), [(16, [RETURNED_BYTES]), (256, [])])
def test_freed_memory_goes_back_where_the_head_is_most_of_the_model(n_embd, returned, monkeypatch):
    calls = []
    library = SimpleNamespace(mallopt=lambda name, value: calls.append(value))
    monkeypatch.setattr("train.hardware.ctypes.CDLL", lambda name: library)
    monkeypatch.setattr("train.hardware.sys.platform", "linux")
    return_freed_memory(build(n_embd))
    assert calls == returned


def build(n_embd=16):
    config = GPT2ScratchConfig(n_layer=2, n_head=2, n_embd=n_embd, vocab_size=2000, n_positions=32)
    return GPT2ScratchForCausalLM(config).train()


@pytest.mark.parametrize(
    ("device", "compiled", "attention", "dropout"),
    [
        ("cpu", False, "blocked_sdpa", FastDropout),
        ("cpu", True, "compiled_sdpa", torch.nn.Dropout),
        ("cuda", False, "sdpa", torch.nn.Dropout),
        ("cuda", True, "compiled_sdpa", torch.nn.Dropout),
    ],
)
def test_each_device_gets_what_makes_it_faster(device, compiled, attention, dropout, monkeypatch):
    monkeypatch.setattr("train.hardware.return_freed_memory", lambda model: None)
    model = build()
    set_up_model(model, torch.device(device), compiled)
    assert model.config._attn_implementation == attention
    assert type(model.transformer.embedding_dropout) is dropout


def test_a_compiled_model_attends_as_an_uncompiled_one_on_packed_and_padded_rows():
    model = build().eval()
    ids = torch.arange(64).view(2, 32)
    padded = torch.ones_like(ids)
    padded[0, :9] = 0
    cases = (
        {},
        {"attention_mask": padded},
        {"position_ids": (torch.arange(32) % 10).expand(2, 32), "use_cache": False},
    )
    expected = [model(ids, **settings).logits for settings in cases]
    set_up_model(model, torch.device("cuda"), compiled=True)
    for settings, logits in zip(cases, expected, strict=True):
        torch.testing.assert_close(model(ids, **settings).logits, logits)


@pytest.mark.slow
def test_a_compiled_step_keeps_the_fast_attention_and_is_two_graphs_for_all_lengths():
    """SDPA's flash kernel takes no mask: the graph must ask for causal attention and give none."""
    calls, graphs = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        calls.extend(node.kwargs for node in graph.graph.nodes if "scaled_dot_product" in str(node.target))
        return graph.forward

    model = build()
    set_up_model(model, torch.device("cuda"), compiled=True)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for length in (32, 24, 16, 20, 28):
        ids = torch.zeros(2, length, dtype=torch.long)
        compiled(ids, labels=ids, use_cache=False)
    assert len(graphs) == 2
    assert [(call["attn_mask"], call["is_causal"]) for call in calls] == [(None, True)] * 4
