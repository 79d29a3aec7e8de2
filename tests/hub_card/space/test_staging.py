"""A Space's files stand alone, and say what it needs and shows."""

import ast
import importlib.metadata
import json
import sys

import pytest
import yaml

from hub_card.space.chat.settings import Settings
from hub_card.space.staging import stage_space
from hub_card.verification.verify import verify_space
from hub_card.verification.without_project import VerificationError


SETTINGS = Settings("tiny", "you/tiny", revision="0" * 40, examples=["Wer schrieb „Emma“?"], context=64)


@pytest.fixture
def space(tmp_path):
    return stage_space(SETTINGS, tmp_path, "you/tiny-demo")["main"]


def test_the_files_import_nothing_of_this_project(space):
    files = sorted(space.rglob("*.py"))
    assert len(files) > 5
    libraries = {"torch", "transformers", "safetensors", "gradio", "chat"} | set(sys.stdlib_module_names)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            assert {name.partition(".")[0] for name in names} <= libraries, file


def test_what_is_staged_is_what_runs_and_nothing_else(space, repository):
    files = {file.relative_to(space).as_posix() for file in space.rglob("*") if file.is_file()}
    code = {
        file.relative_to(repository / "hub_card/space") for file in (repository / "hub_card/space/chat").glob("*.py")
    }
    written = {"README.md", "requirements.txt", "settings.json"}
    assert files == {"app.py", "chat/loading.py", *written, *(file.as_posix() for file in code)}
    assert Settings(**json.loads((space / "settings.json").read_text())) == SETTINGS


def test_the_card_has_the_hubs_settings(space):
    text = (space / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["sdk"] == "gradio"
    assert metadata["sdk_version"] == importlib.metadata.version("gradio")
    assert metadata["app_file"] == "app.py"
    assert metadata["models"] == ["you/tiny"]
    assert metadata["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert len(metadata["short_description"]) <= 60
    assert {metadata["colorFrom"], metadata["colorTo"]} <= {
        "red",
        "yellow",
        "green",
        "blue",
        "indigo",
        "purple",
        "pink",
    }
    assert metadata["license"] == "mit"
    assert "runs none of the repository's" in text
    assert "0" * 40 in text


def test_the_versions_are_those_that_are_tested(space):
    lines = (space / "requirements.txt").read_text().splitlines()
    assert f"transformers=={importlib.metadata.version('transformers')}" in lines
    assert any(line.startswith("torch==") and "+" not in line for line in lines)
    assert "https://download.pytorch.org/whl/cpu" in lines[0]


def test_code_is_trusted_at_a_commit_only():
    with pytest.raises(ValueError, match="set revision"):
        Settings("tiny", "you/tiny", trust_remote_code=True)


@pytest.mark.parametrize("package", ["train", "hub_card", "modeling_gpt2scratch"])
def test_a_page_that_needs_this_project_is_found(space, package):
    (space / "app.py").write_text(f"import {package}\n")
    with pytest.raises(VerificationError, match=rf"does not work.*ModuleNotFoundError: import of {package} halted"):
        verify_space(space)
