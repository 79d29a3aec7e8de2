"""Shared by all tests: no network, and the smallest model and data that show the behaviour."""

import gc
import os


# Before any library reads them: nothing here may depend on the Hub, or on how many cores the machine has.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gpt2scratch import TOKENIZER_FOLDER
from tests.stand_in_device import StandInAutocast, StandInDevice


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no process is left alone with one of them at the end."""
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_slow)


def pytest_collection_finish() -> None:
    """What is imported stays: a collection of garbage, of which each training makes one, need not look at it."""
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


@pytest.fixture
def largest_tensor() -> type[LargestTensor]:
    """`with largest_tensor() as largest: ...`, then `largest.elements`."""
    return LargestTensor


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInDevice]:
    """A stand-in for an accelerator is there during the test, as `torch.device("meta")`."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: StandInAutocast.dtypes[-1] is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device_type: StandInAutocast.dtypes[-1])
    monkeypatch.setattr(torch, "autocast", StandInAutocast)
    original = torch.tensor  # by itself it makes a tensor of the meta device, without a value
    monkeypatch.setattr(
        torch, "tensor", lambda data, device=None, **kwargs: original(data, device="cpu", **kwargs).to(device or "cpu")
    )
    with StandInDevice() as device:
        yield device
