import os
from types import SimpleNamespace

import pytest
import torch

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.hardware import RETURNED_BYTES, return_freed_memory, set_up_hardware
from train.settings.recipe import RecipeParser


@pytest.fixture(autouse=True)
def put_threads_back():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def set_up(tmp_path):
    def run(*words: str) -> int:
        set_up_hardware(RecipeParser().parse_recipe(["--output_dir", str(tmp_path), *words]))
        return torch.get_num_threads()

    return run


def test_all_cores_are_used_whatever_the_launcher_left(set_up):
    torch.set_num_threads(1)
    assert set_up() == len(os.sched_getaffinity(0))


def test_the_processes_of_a_machine_share_its_cores(set_up, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    assert set_up() == 1


def test_the_number_of_threads_can_be_set(set_up):
    assert set_up("--cpu_threads", "3") == 3


@pytest.mark.parametrize(("n_embd", "returned"), [(16, [RETURNED_BYTES]), (256, [])])
def test_freed_memory_goes_back_where_the_head_is_most_of_the_model(n_embd, returned, monkeypatch):
    calls = []
    library = SimpleNamespace(mallopt=lambda name, value: calls.append(value))
    monkeypatch.setattr("train.hardware.ctypes.CDLL", lambda name: library)
    monkeypatch.setattr("train.hardware.sys.platform", "linux")
    config = GPT2ScratchConfig(n_layer=2, n_head=2, n_embd=n_embd, vocab_size=2000, n_positions=16)
    return_freed_memory(GPT2ScratchForCausalLM(config))
    assert calls == returned
