"""The rules of the house: which room may import which, nothing in a circle, and nothing too long to read."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest


ROOMS = ("modeling_gpt2scratch", "train", "hub_card")
# What each room may import of the others and of itself.
ALLOWED = {
    "modeling_gpt2scratch": ("modeling_gpt2scratch",),
    "train": ("modeling_gpt2scratch", "train"),
    "hub_card": (
        "modeling_gpt2scratch",
        "hub_card",
        "train.chat",
        "train.evaluation",
        "train.run_files",
        "train.run_report",
    ),
}
MODEL_LIBRARIES = {"torch", "transformers", "huggingface_hub", "safetensors"}

# The floors of train/, from the ground up. A file imports from its own floor and those below.
FLOORS = (
    ("errors", "run_files", "cpu_kernels", "launcher", "sharding"),
    ("hardware", "provenance", "settings"),
    ("optim", "data", "tokenizer", "checkpointing", "build_model", "buildable"),
    ("callbacks", "evaluation", "dry_run"),
    ("trainer", "run_report", "chat"),
    ("load_data", "post_training", "benchmark", "experiments", "run"),
    ("pretrain", "finetune"),
)
ENTRY_SCRIPTS = ("train.pretrain", "train.finetune")

LONGEST_FILE = 300
FULLEST_FOLDER = 14


def module_name(file: Path, repository: Path) -> str:
    return ".".join(file.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")


@pytest.fixture(scope="module")
def files(repository) -> dict[str, Path]:
    """All modules of the three rooms, by name."""
    found = (file for room in ROOMS for file in (repository / room).rglob("*.py"))
    return {module_name(file, repository): file for file in found}


@pytest.fixture(scope="module")
def imports(files) -> dict[str, set[str]]:
    """The modules of the house that each module imports, at its top or within a function."""
    return {name: {found for found in imported_modules(file, name) if found in files} for name, file in files.items()}


def imported_modules(file: Path, name: str) -> set[str]:
    """The modules that a file imports; of `from x import y` both `x` and `x.y`, one of which may be no module."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            modules |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return modules


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_to_the_model(imports, room):
    for name, imported in imports.items():
        if name.split(".")[0] == room:
            strangers = {m for m in imported if not any(f"{m}.".startswith(f"{allowed}.") for allowed in ALLOWED[room])}
            assert strangers == set(), name


def test_nothing_imports_an_entry_script(imports):
    importers = [name for name, imported in imports.items() if imported.intersection(ENTRY_SCRIPTS)]
    assert importers == []


def test_no_import_runs_in_a_circle(imports):
    """A package's own file counts as imported only where something of it is meant: it holds a docstring."""
    graph = {name: imported - {name, "train", "hub_card"} for name, imported in imports.items()}
    TopologicalSorter(graph).prepare()  # raises a CycleError that names the circle


def test_no_import_runs_up_the_floors(imports):
    floor_of = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
    upwards = [
        f"{name} imports {found}"
        for name, imported in imports.items()
        for found in imported
        if name.startswith("train.")
        and found.startswith("train.")
        and floor_of[name.split(".")[1]] < floor_of[found.split(".")[1]]
    ]
    assert upwards == []


def test_the_model_needs_torch_and_transformers_only(repository):
    for file in (repository / "modeling_gpt2scratch").glob("*.py"):
        modules = imported_modules(file, module_name(file, repository))
        libraries = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)
        assert libraries <= MODEL_LIBRARIES | {"modeling_gpt2scratch"}, file


def test_no_file_of_train_hides_a_library(repository):
    """`python train/pretrain.py` puts train/ first on the import path."""
    libraries = {"datasets", "evaluate", "tokenizers", "accelerate", "transformers", "torch", "trl", "peft"}
    names = {path.stem for path in (repository / "train").iterdir()}
    assert names & (libraries | set(sys.stdlib_module_names)) == set()


def test_files_stay_short(files):
    """A file is one subject; a reader takes it in at one sitting."""
    lengths = {name: len(file.read_text().splitlines()) for name, file in files.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_folders_stay_small(files):
    """A reader finds a file in a folder at a glance."""
    folders = [file.parent for file in files.values() if file.name != "__init__.py"]
    full = {folder.name for folder in folders if folders.count(folder) > FULLEST_FOLDER}
    assert full == set()
