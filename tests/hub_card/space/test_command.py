"""`python -m hub_card.space` with what it cannot work with: one line that says so, and what to do."""

import json
import socket
import subprocess
import sys

import pytest

from hub_card.space import __main__ as command
from hub_card.space.model_choice import GENERAL_EXAMPLES, choose_model
from hub_card.verification import check_space


def run(caplog, *words: str) -> tuple[int, str]:
    """Exit status, and the one line."""
    caplog.clear()
    status = command.main(list(words))
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "\n" not in record.getMessage()
    return status, record.getMessage()


def test_a_name_that_is_nowhere(caplog):
    assert run(caplog, "/no/such") == (
        2,
        "hub_card.space: /no/such is neither a folder here nor a model on the Hub.",
    )
    status, line = run(caplog, "runs/none")  # might be one on the Hub, which tests cannot reach
    assert status == 1
    assert "no folder runs/none here" in line
    assert "HF_HUB_OFFLINE" in line


def test_a_folder_without_a_model(caplog, tmp_path):
    status, line = run(caplog, str(tmp_path))
    assert status == 2
    assert "holds no model" in line


def test_weights_that_are_damaged(caplog, model_folder, tmp_path):
    (tmp_path / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).symlink_to(model_folder / file)
    status, line = run(caplog, str(tmp_path))
    assert status == 2
    assert str(tmp_path) in line
    assert "damaged" in line


@pytest.mark.parametrize("text", [b"", b"[]", b"a: \xff", b"sequence_length: long", b"sample_temperature: hot"])
def test_a_recipe_that_is_damaged(caplog, model_folder, tmp_path, text):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).symlink_to(model_folder / file)
    (tmp_path / "recipe.yaml").write_bytes(text)
    status, line = run(caplog, str(tmp_path))
    assert status == 2
    assert f"{tmp_path / 'recipe.yaml'}" in line


def test_an_address_that_cannot_be_had(caplog):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        for words in (["--port", taken], ["--port", "99999"], ["--port", "-1"], ["--port", "0"], ["--host", "no host"]):
            status, line = run(caplog, "no/model", *words)
            assert status == 2
            assert line.startswith(f"hub_card.space: {' '.join(words)}: cannot listen there")


def test_no_gradio(caplog, monkeypatch, model_folder):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    status, line = run(caplog, str(model_folder))
    assert status == 2
    assert "pip install" in line


def test_no_browser_for_the_check(caplog, monkeypatch):
    monkeypatch.setattr(check_space.shutil, "which", lambda name: None)
    status, line = run(caplog, "you/tiny", "--publish", "you/tiny-chat")
    assert status == 2
    assert "apt-get install chromium npm), or leave the check out (--without_check)" in line


def test_a_folder_is_not_published(caplog, model_folder):
    status, line = run(caplog, str(model_folder), "--publish", "you/demo")
    assert status == 2
    assert f"hub_card.publish {model_folder} --repo_id you/name" in line


def test_a_space_needs_an_owner(caplog):
    status, line = run(caplog, "you/tiny", "--publish", "demo", "--without_check")
    assert status == 2
    assert "write you/demo" in line


def test_the_recipe_decides_what_the_page_begins_with(model_folder, tmp_path):
    settings = choose_model(str(model_folder))
    assert settings.title == "tiny"
    assert settings.examples == ["Who wrote Emma?", "Count."]
    assert (settings.temperature, settings.context, settings.remember) == (0.0, None, False)

    checkpoint = tmp_path / "chatty" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    for file in ("config.json", "model.safetensors"):
        (checkpoint / file).symlink_to(model_folder / file)
    assert choose_model(str(checkpoint)).examples == GENERAL_EXAMPLES
    recipe = {"method": "sft", "max_length": 96, "sample_prompts": None}
    (checkpoint.parent / "recipe.yaml").write_text(json.dumps(recipe))
    settings = choose_model(str(checkpoint))
    assert settings.examples == GENERAL_EXAMPLES
    assert (settings.context, settings.remember) == (96, True)


@pytest.mark.parametrize("words", [["--help"], []])
def test_the_help_is_told(words, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    told = capsys.readouterr()
    assert "--publish" in told.out + told.err


def test_the_help_loads_no_heavy_library():
    code = "import sys, hub_card.space.__main__; sys.exit(', '.join({'torch', 'gradio'} & set(sys.modules)) or 0)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
