"""A model on the Hub becomes a Space, through the real client, against a stand-in for the Hub."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer

from modeling_gpt2scratch import GPT2ScratchForCausalLM, save_as_hf_gpt2
from tests.hub_card.hub_server import Repository, serve


pytestmark = pytest.mark.slow

MODEL, SPACE = "you/tiny", "you/tiny-demo"

# Runs the command again and again in one process, with the check, which takes seconds, only where it is asked for, and
# with the page's beginning in place of the page.
COMMAND = """
import contextlib, json, sys
from hub_card.space import __main__ as command
from hub_card.space.chat import page, writer
from hub_card.verification import verify as verification

class Page:
    def __init__(self, settings):
        model = writer.open_model(settings).model
        print(type(model).__name__, settings, file=sys.stderr)

    def launch(self, **options):
        pass

page.build_page = Page
verify = verification.verify_space
for line in sys.stdin:
    checked, words = json.loads(line)
    verification.verify_space = verify if checked else lambda folder: None
    with contextlib.redirect_stdout(sys.stderr):
        status = command.main(words)
    print(json.dumps(status), flush=True)
"""


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(model_folder, tmp_path_factory):
    """The stand-in, with the tiny model on both branches, and without the branch `gpt2` under another name."""
    model, tokenizer = GPT2ScratchForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    export = tmp_path_factory.mktemp("export") / "gpt2"
    save_as_hf_gpt2(model, tokenizer, export)
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

    def run(self, *words: str, checked: bool = False) -> tuple[int, str]:
        """The exit status, and what was told."""
        told_before = self.log.stat().st_size
        self.process.stdin.write(json.dumps([checked, list(words)]) + "\n")
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
    """The Space's repository after the command, with its check."""
    status, told = command.run(MODEL, "--publish", SPACE, checked=True)
    assert status == 0, told
    assert "Verified" in told
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
    assert not settings["trust_remote_code"]
    assert settings["examples"] == ["Who wrote Emma?", "Count."]  # from main: the export has no recipe
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["models"] == [MODEL]
    assert {"app.py", "chat/page.py", ".gitattributes"} <= files.keys()
    assert SPACE not in hub.repositories  # no model of that name came to be


def test_publishing_again_makes_no_commit_until_the_model_changes(published, command, hub):
    status, told = command.run(MODEL, "--publish", SPACE)
    assert status == 0
    assert "nothing has changed" in told
    assert len(published.commits) == 2
    model = hub.repositories[MODEL]
    head = model.commit("gpt2", model.files("gpt2"))
    assert command.run(MODEL, "--publish", SPACE)[0] == 0
    assert json.loads(published.files("main")["settings.json"])["revision"] == head


def test_without_the_export_branch_the_code_runs_at_its_commit(command, hub):
    status, told = command.run("you/own-code", "--publish", "you/own-demo", "--dry_run", checked=True)
    assert status == 0, told
    assert f"runs the code of you/own-code at commit {hub.repositories['you/own-code'].heads['main']}" in told
    assert "spaces/you/own-demo" not in hub.repositories


def test_a_model_on_the_hub_is_shown_here_by_this_packages_classes(command, hub):
    status, told = command.run("you/own-code")
    assert status == 0, told
    assert "GPT2ScratchForCausalLM" in told
    assert "trust_remote_code=False" in told
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
    status, told = command.run(model, "--publish", "you/none-demo")
    assert status == 2
    assert model in one_line(told)
    assert "spaces/you/none-demo" not in hub.repositories


def test_the_hub_is_down(command, hub):
    hub.faults["GET /api/models"] = 503
    status, told = command.run(MODEL, "--publish", SPACE)
    hub.faults.clear()
    assert status == 1
    assert "503" in one_line(told)


def test_a_commit_that_fails_leaves_the_old_state(published, command, hub):
    before = dict(published.heads)
    model = hub.repositories[MODEL]
    model.commit("gpt2", model.files("gpt2"))
    hub.faults["POST .*/commit/"] = 500
    status, told = command.run(MODEL, "--publish", SPACE)
    hub.faults.clear()
    assert status == 1
    assert "the same command again" in one_line(told)
    assert published.heads == before


def test_no_permission(command, hub):
    status, told = command.run(MODEL, "--publish", "somebody/tiny-demo")
    assert status == 1
    assert "hf auth login" in one_line(told)


def test_a_private_model_needs_a_secret(command, hub):
    hub.repositories[MODEL].private = True
    status, told = command.run(MODEL, "--publish", "you/secret-demo", "--private")
    hub.repositories[MODEL].private = False
    assert status == 0
    assert "secret HF_TOKEN" in told
    assert hub.repositories["spaces/you/secret-demo"].private
