"""From a run folder to the Hub and back, through the real client, against a stand-in for the Hub."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_card.hub_server import FIRST_COMMIT, serve


pytestmark = pytest.mark.slow

REPO = "you/tiny"

# Publishes again and again in one process, with the check, which takes seconds, only where it is asked for.
PUBLISHER = """
import json, sys
from hub_card import publish
verify = publish.verify_model
for line in sys.stdin:
    checked, words = json.loads(line)
    publish.verify_model = verify if checked else lambda run, branches: None
    print(json.dumps(publish.main(words)), flush=True)
"""

STRANGER = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("modeling_gpt2scratch", "train", "hub_card"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
ids = torch.arange(20)[None]
kinds, logits = [], []
for options in ({"trust_remote_code": True}, {"revision": "gpt2"}):
    model = AutoModelForCausalLM.from_pretrained("you/tiny", **options)
    tokenizer = AutoTokenizer.from_pretrained("you/tiny", **options)
    assert model.generate(**tokenizer("Q:", return_tensors="pt"), max_new_tokens=3).shape[1] > 2
    kinds.append(type(model).__name__)
    logits.append(model(ids).logits)
print(json.dumps({"kinds": kinds, "difference": (logits[0] - logits[1]).abs().max().item()}))
"""


class Publisher:
    """Runs `hub_card.publish` in a child process that takes the stand-in for the Hub."""

    def __init__(self, environment: dict[str, str], folder: Path):
        self.log = folder / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )

    def publish(self, run: Path, *words: str, repo_id: str = REPO, checked: bool = False) -> tuple[int, str]:
        """The exit status, and what was told."""
        told_before = self.log.stat().st_size
        self.process.stdin.write(json.dumps([checked, [str(run), "--repo_id", repo_id, *words]]) + "\n")
        self.process.stdin.flush()
        status = self.process.stdout.readline()
        told = self.log.read_bytes()[told_before:].decode()
        assert status, told
        return json.loads(status), told


@pytest.fixture(scope="module")
def hub():
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def publisher(hub, tmp_path_factory):
    publisher = Publisher(hub.environment(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("publisher"))
    yield publisher
    publisher.process.stdin.close()
    publisher.process.wait(60)


@pytest.fixture(scope="module")
def published(hub, publisher, finished_run):
    """The stand-in, after the command has published the run, with its check."""
    status, told = publisher.publish(finished_run, checked=True)
    assert status == 0, told
    assert "Verified" in told
    return hub


@pytest.fixture
def faults(hub):
    """Requests that fail during one test."""
    yield hub.faults
    hub.faults.clear()


def state(hub, repo_id: str = REPO) -> tuple[dict, int]:
    repository = hub.repositories[repo_id]
    return dict(repository.heads), len(repository.commits)


def test_both_branches_open_from_the_hub_where_the_package_is_absent(published, tmp_path):
    environment = published.environment(tmp_path, token=None)
    command = [sys.executable, "-P", "-c", STRANGER]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert answer["kinds"] == ["GPT2ScratchForCausalLM", "GPT2LMHeadModel"]
    assert answer["difference"] < 1e-4


def test_each_branch_got_one_commit_with_the_staged_files(published, finished_run):
    repository = published.repositories[REPO]
    assert len(repository.commits) == 3  # the first one of any repository, main, gpt2
    assert not repository.private
    main, export = repository.files("main"), repository.files("gpt2")
    assert main["model.safetensors"] == (finished_run / "model.safetensors").read_bytes()
    assert main["README.md"].startswith(b"---\n")
    assert {".gitattributes", "causal_lm.py", "loss_curve.png", "recipe.yaml"} <= main.keys()
    assert "trainer_state.json" not in main
    assert json.loads(export["config.json"])["model_type"] == "gpt2"
    assert not [name for name in export if name.endswith(".py")]


def test_publishing_again_makes_no_commit(published, publisher, finished_run):
    before = state(published)
    status, told = publisher.publish(finished_run)
    assert status == 0
    assert state(published) == before
    assert told.count("nothing has changed") == 2


def test_what_is_no_longer_staged_is_deleted(published, publisher, run):
    heads, commits = state(published)
    assert "samples.jsonl" in published.repositories[REPO].files("main")
    (run / "samples.jsonl").unlink()
    status, told = publisher.publish(run)
    assert status == 0
    assert "main: deleted samples.jsonl" in told
    files = published.repositories[REPO].files("main")
    assert "samples.jsonl" not in files
    assert ".gitattributes" in files
    assert b"Samples: not recorded." in files["README.md"]
    assert state(published)[1] == commits + 1  # the export is as it was
    assert state(published)[0]["gpt2"] == heads["gpt2"]


def test_a_commit_that_fails_leaves_the_old_state(published, publisher, run, faults):
    (run / "results.json").write_text((run / "results.json").read_text().replace('"parameters": ', '"parameters": 1'))
    before = state(published)
    faults["POST .*/commit/"] = 500
    status, told = publisher.publish(run)
    assert status == 1
    assert state(published) == before
    (line,) = (line for line in told.splitlines() if line.startswith("hub_card.publish:"))
    assert "500" in line
    assert "the same command again" in line
    assert "Traceback" not in told


def test_an_upload_that_broke_off_goes_on(published, publisher, finished_run, faults):
    weights = hashlib.sha256((finished_run / "model.safetensors").read_bytes()).hexdigest()
    published.objects.clear()
    faults[f"PUT /objects/{weights}"] = 400
    status, told = publisher.publish(finished_run, repo_id="you/broken")
    assert status == 1
    assert "model.safetensors" in told
    repository = published.repositories["you/broken"]
    assert {name: repository.files(name) for name in ("main", "gpt2")} == {"main": FIRST_COMMIT, "gpt2": FIRST_COMMIT}
    assert published.objects  # the other large files have arrived

    faults.clear()
    published.requests.clear()
    arrived = set(published.objects)
    assert publisher.publish(finished_run, repo_id="you/broken")[0] == 0
    assert repository.files("main")["model.safetensors"] == (finished_run / "model.safetensors").read_bytes()
    put = {request.rpartition("/")[2] for request in published.requests if request.startswith("PUT")}
    assert weights in put
    assert not put & arrived  # nothing goes up twice


def test_without_permission_one_line_tells_what_to_do(publisher, hub, finished_run):
    status, told = publisher.publish(finished_run, repo_id="somebody/tiny")
    assert status == 1
    (line,) = (line for line in told.splitlines() if line.startswith("hub_card.publish:"))
    assert "403" in line
    assert "hf auth login" in line
    assert "somebody/tiny" not in hub.repositories


def test_private_means_private(publisher, hub, finished_run):
    words = ("--private", "--without_hf_gpt2")
    assert publisher.publish(finished_run, *words, repo_id="you/secret")[0] == 0
    assert hub.repositories["you/secret"].private
    assert list(hub.repositories["you/secret"].heads) == ["main"]
    hub.repositories["you/secret"].private = False
    status, told = publisher.publish(finished_run, *words, repo_id="you/secret")
    assert status == 1
    assert "exists and is public" in told
