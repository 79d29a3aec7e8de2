"""Windows and Macs, as far as Linux can show what they lack."""

import importlib
import os
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer

from train.callbacks import peak_memory
from train.checkpointing.checkpoints import put_in_place, write_manifest
from train.evaluation.losses.document_scores import _sum_windows, _Window
from train.provenance import describe_hardware
from train.run_files import UNFINISHED_FOLDER
from train.trainer.evaluating import EvaluationTrainer


@pytest.fixture
def windows(monkeypatch):
    """No module `resource`, and folders that cannot be opened."""
    really_open = os.open

    def open_no_folder(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *args, **kwargs)

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(os, "open", open_no_folder)
    monkeypatch.setattr(sys, "platform", "win32")


def test_windows_tells_no_peak_of_memory(windows):
    assert importlib.reload(peak_memory).peak_memory_bytes(torch.device("cpu")) == 0


def test_windows_puts_checkpoints_in_place(windows, tmp_path):
    unfinished = tmp_path / UNFINISHED_FOLDER / "checkpoint-1"
    unfinished.mkdir(parents=True)
    write_manifest(unfinished, {"step": 1})
    assert put_in_place(unfinished, tmp_path) == tmp_path / "checkpoint-1"


class NoFloat64(TorchDispatchMode):
    """A device without float64, as MPS is: the meta device, whose tensors come to the CPU as zeros."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype", args[0].dtype))
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.device.type == "meta" and made.dtype == torch.float64:
            raise TypeError(f"This device has no float64: {function}")
        return made


def test_documents_are_scored_on_a_device_without_float64():
    def model(input_ids, use_cache):
        return SimpleNamespace(logits=torch.empty(*input_ids.shape, 50, device="meta"))

    model.device = torch.device("meta")
    ids = torch.arange(8)
    with NoFloat64(), torch.no_grad():
        sums = _sum_windows(model, [_Window(0, ids, ids, 2), _Window(1, ids[:4], ids[:4], 1)])
    assert (sums.shape, sums.dtype) == ((2, 4), torch.float64)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_the_sums_of_an_evaluation_are_float64_where_there_is_such(device, dtype, monkeypatch):
    trainer = object.__new__(EvaluationTrainer)
    trainer.args = SimpleNamespace(device=torch.device(device))
    trainer.eval_dataset = range(4)
    monkeypatch.setattr(Trainer, "evaluation_loop", lambda self: SimpleNamespace(metrics={}))
    found = []

    class Parts(list):
        def sum(self, dim):
            return SimpleNamespace(tolist=lambda: self[0])

    def reduce(sums, reduction):
        found.append(sums.dtype)
        return Parts([[2.0, 1, 0]])

    trainer.accelerator = SimpleNamespace(reduce=reduce)
    with FakeTensorMode():
        trainer.evaluation_loop()
    assert found == [dtype]


def test_a_mac_is_said_to_train_on_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert describe_hardware()["device"].startswith("Apple GPU")
