"""The rooms of the house: imports point to modeling_gpt2scratch, and nothing imports an entry script."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


ROOMS = {
    "modeling_gpt2scratch": {"modeling_gpt2scratch"},
    "train": {"modeling_gpt2scratch", "train"},
    "hub_card": {"modeling_gpt2scratch", "hub_card", "train.evaluation", "train.run_files"},
}
ENTRY_SCRIPTS = {"train.pretrain", "train.finetune"}
MODEL_LIBRARIES = {"torch", "transformers", "huggingface_hub"}


def imported_modules(file: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module)
    return modules


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_the_model(repository, room):
    for file in (repository / room).rglob("*.py"):
        for module in imported_modules(file):
            if module.partition(".")[0] in ROOMS:
                assert any(module == allowed or module.startswith(f"{allowed}.") for allowed in ROOMS[room]), file
            assert module not in ENTRY_SCRIPTS, file


def test_the_model_needs_torch_and_transformers_only(repository):
    for file in (repository / "modeling_gpt2scratch").glob("*.py"):
        libraries = {module.partition(".")[0] for module in imported_modules(file)} - set(sys.stdlib_module_names)
        assert libraries <= MODEL_LIBRARIES, file


def test_no_file_of_train_hides_a_library(repository):
    """`python train/pretrain.py` puts train/ first on the import path."""
    libraries = {"datasets", "evaluate", "tokenizers", "accelerate", "transformers", "torch", "trl", "peft"}
    names = {path.stem for path in (repository / "train").iterdir()}
    assert names & (libraries | set(sys.stdlib_module_names)) == set()


def test_importing_the_package_loads_no_training_library():
    code = (
        "import sys, modeling_gpt2scratch;"
        "loaded = {'datasets', 'matplotlib', 'tensorboard', 'train'} & set(sys.modules);"
        "sys.exit(', '.join(loaded) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_files_stay_short(repository):
    """A file is one subject; a reader takes it in at one sitting."""
    for room in ROOMS:
        for file in (repository / room).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 350, file
