import os

import pytest
import torch

from train.hardware import set_up_hardware
from train.recipe import RecipeParser


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
