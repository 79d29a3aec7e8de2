"""A model on the Hub becomes a Space, through the real client, against a stand-in for the Hub."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from hub_card.export.formats import put_template_in_config, write_onnx
from modeling_gpt2scratch import GPT2ScratchForCausalLM, save_as_hf_gpt2
from tests.hub_card.hub_server import Repository, serve


pytestmark = pytest.mark.slow

MODEL, SPACE = "you/tiny", "you/tiny-chat"
UNCHECKED = ["--without_check"]

# Runs the command again and again in one process, with the page's beginning in place of the page on this machine.
COMMAND = """
import contextlib, json, sys
from hub_card.space import __main__ as command, local_page

class Page:
    def __init__(self, settings):
        print(type(local_page.Chat(settings).model).__name__, settings, file=sys.stderr)

    def launch(self, **options):
        pass

local_page.build_page = Page
for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
        status = command.main(json.loads(line))
    print(json.dumps(status), flush=True)
"""


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


@pytest.fixture(scope="module")
def hub(model_folder, tmp_path_factory):
    """The stand-in, with the tiny model on both branches, and without the branch `gpt2` under another name."""
    model, tokenizer = GPT2ScratchForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    export = tmp_path_factory.mktemp("export") / "gpt2"
    save_as_hf_gpt2(model, tokenizer, export)
    put_template_in_config(export)
    write_onnx(export)
    with serve() as server:
        for name in (MODEL, "you/own-code", "you/empty"):
            server.repositories[name] = Repository(private=False)
            if name != "you/empty":
                server.repositories[name].commit("main", files_in(model_folder))
        server.repositories[MODEL].commit("gpt2", files_in(export))
        yield server


class Command:
    """`python -m hub_card.space` in a child process that takes the stand-in for the Hub."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.log = folder / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """The exit status, and what was told."""
        told_before = self.log.stat().st_size
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        status = self.process.stdout.readline()
        told = self.log.read_bytes()[told_before:].decode()
        assert status, told
        return json.loads(status), told


@pytest.fixture(scope="module")
def command(hub, tmp_path_factory):
    command = Command(hub.environment(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("command"))
    yield command
    command.process.stdin.close()
    command.process.wait(60)


@pytest.fixture(scope="module")
def published(hub, command):
    """The Space's repository after the command."""

    status, told = command.run(MODEL, "--publish", SPACE, *UNCHECKED)
    assert status == 0, told
    return hub.repositories[f"spaces/{SPACE}"]


def one_line(told: str) -> str:
    (line,) = (line for line in told.splitlines() if line.startswith("hub_card.space:"))
    assert "Traceback" not in told
    return line


def test_the_space_shows_the_export_at_its_commit(published, hub):
    files = published.files("main")
    assert len(published.commits) == 2  # the first one of any repository, and ours
    settings = json.loads(files["settings.json"])
    assert settings["model"] == MODEL
    assert settings["revision"] == hub.repositories[MODEL].heads["gpt2"]
    assert settings["examples"] == ["Who wrote Emma?", "Count."]  # from main: the export has no recipe
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["models"] == [MODEL]
    assert {"index.html", "worker.js", ".gitattributes"} <= files.keys()
    assert SPACE not in hub.repositories  # no model of that name came to be


def test_publishing_again_makes_no_commit_until_the_model_changes(published, command, hub):
    status, told = command.run(MODEL, "--publish", SPACE, *UNCHECKED)
    assert status == 0
    assert "nothing has changed" in told
    assert len(published.commits) == 2
    model = hub.repositories[MODEL]
    head = model.commit("gpt2", model.files("gpt2"))
    assert command.run(MODEL, "--publish", SPACE, *UNCHECKED)[0] == 0
    assert json.loads(published.files("main")["settings.json"])["revision"] == head


def test_a_model_without_graphs_tells_what_to_do(command, hub):
    status, told = command.run("you/own-code", "--publish", "you/own-chat", "--dry_run", *UNCHECKED)
    assert status == 2
    assert "has no onnx/model_quantized.onnx on a branch gpt2: publish the run again" in one_line(told)


def test_a_model_on_the_hub_is_shown_here_by_this_packages_classes(command, hub):
    status, told = command.run("you/own-code")
    assert status == 0, told
    assert "GPT2ScratchForCausalLM" in told
    assert "'Count.'" in told
    hub.faults["."] = 503
    status, told = command.run("you/own-code")  # as it is kept here
    missing = command.run("you/never-seen")
    hub.faults.clear()
    assert status == 0, told
    assert "GPT2ScratchForCausalLM" in told
    assert "'Count.'" in told
    assert missing[0] == 1
    assert "no folder you/never-seen here" in one_line(missing[1])
    assert command.run("you/never-seen")[0] == 2


@pytest.mark.parametrize("model", ["you/none", "you/empty"])
def test_only_a_model_that_is_there_is_published(command, hub, model):
    status, told = command.run(model, "--publish", "you/none-demo", *UNCHECKED)
    assert status == 2
    assert model in one_line(told)
    assert "spaces/you/none-demo" not in hub.repositories


def test_the_hub_is_down(command, hub):
    hub.faults["GET /api/models"] = 503
    status, told = command.run(MODEL, "--publish", SPACE, *UNCHECKED)
    hub.faults.clear()
    assert status == 1
    assert "503" in one_line(told)


def test_a_commit_that_fails_leaves_the_old_state(published, command, hub):
    before = dict(published.heads)
    model = hub.repositories[MODEL]
    model.commit("gpt2", model.files("gpt2"))
    hub.faults["POST .*/commit/"] = 500
    status, told = command.run(MODEL, "--publish", SPACE, *UNCHECKED)
    hub.faults.clear()
    assert status == 1
    assert "the same command again" in one_line(told)
    assert published.heads == before


def test_no_permission(command, hub):
    status, told = command.run(MODEL, "--publish", "somebody/tiny-demo", *UNCHECKED)
    assert status == 1
    assert "hf auth login" in one_line(told)


def test_a_private_model_is_not_shown(command, hub):
    hub.repositories[MODEL].private = True
    status, told = command.run(MODEL, "--publish", "you/secret-chat", *UNCHECKED)
    hub.repositories[MODEL].private = False
    assert status == 2
    assert "is private, and a visitor's browser could not read it" in one_line(told)
