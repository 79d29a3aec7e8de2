"""Shared by all tests: no network, and the smallest model and data that show the behaviour."""

import gc
import os


# Before any library reads them: nothing here may depend on the Hub, or on how many cores the machine has. The workers
# share the cores: with more threads than cores, OpenMP's wait for one another.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


# The process that hands the tests to workers reads this file, too: torch and transformers, which take it seconds, are
# imported where they are used.
if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tests.largest_tensor import LargestTensor
    from tests.stand_in_device import StandInDevice


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no process is left alone with one of them at the end."""
    with_slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_slow)


def pytest_collection_finish() -> None:
    """What is imported stays: a collection of garbage, of which each training makes one, need not look at it."""
    gc.freeze()


@pytest.fixture(scope="session")
def tokenizer() -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from modeling_gpt2scratch import TOKENIZER_FOLDER

    return AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent


@pytest.fixture
def largest_tensor() -> "type[LargestTensor]":
    """`with largest_tensor() as largest: ...`, then `largest.elements`."""
    from tests.largest_tensor import LargestTensor

    return LargestTensor


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> "Iterator[StandInDevice]":
    """A stand-in for an accelerator is there during the test, as `torch.device("meta")`."""
    import torch

    from tests.stand_in_device import StandInAutocast, StandInDevice

    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: StandInAutocast.dtypes[-1] is not None)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device_type: StandInAutocast.dtypes[-1])
    monkeypatch.setattr(torch, "autocast", StandInAutocast)
    original = torch.tensor  # by itself it makes a tensor of the meta device, without a value
    monkeypatch.setattr(
        torch, "tensor", lambda data, device=None, **kwargs: original(data, device="cpu", **kwargs).to(device or "cpu")
    )
    with StandInDevice() as device:
        yield device
