"""Shared by the tests of preparing."""

import multiprocessing
from types import SimpleNamespace

import pytest

from train.data.sequences import chunk_pool


@pytest.fixture
def quick_workers(monkeypatch):
    """Worker processes out of one that has imported all they need, once for all tests; it has no threads to lose."""
    multiprocessing.set_forkserver_preload(["train.data.sequences.chunk_pool"])
    forkserver = multiprocessing.get_context("forkserver")
    monkeypatch.setattr(chunk_pool, "multiprocessing", SimpleNamespace(get_context=lambda _: forkserver))
