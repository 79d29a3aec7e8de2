"""Every README: its links lead somewhere, and its commands exist with the options that they name.

A command of ours is also run: by the tests that `RUN_BY` names, or by `.ci/run` through make.
"""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parent.parent
READMES = sorted(
    subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*README.md"],
        *(), cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split()
)  # fmt: skip
RUN_BY = {
    "train/pretrain.py": "tests/train/test_pretrain.py",
    "train/finetune.py": "tests/train/post_training/test_finetune.py",
    "train.data": "tests/train/data/sequences/test_preparing_apart.py",
    "train.data.sample": "tests/train/data/sample/test_sample.py",
    "train.tokenizer": "tests/train/tokenizer/test_training.py",
    "train.evaluation": "tests/train/evaluation/test_evaluation_command.py",
    "train.chat": "tests/train/chat/test_chat.py",
    "train.run_report": "tests/train/run_report/test_main.py",
    "train.benchmark": "tests/train/benchmark/test_benchmark.py",
    "train.experiments.fault_injection": "tests/train/experiments/test_fault_injection.py",
    "train.experiments.time_to_loss": "tests/train/experiments/test_time_to_loss.py",
    "hub_card.export": "tests/hub_card/test_export.py",
    "hub_card.publish": "tests/hub_card/test_publish.py",
    "hub_card.space": "tests/hub_card/space/test_command.py",
    "modeling_gpt2scratch.tokenizer.build": "tests/modeling_gpt2scratch/test_tokenizer.py",
}
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
FENCED = re.compile(r"^```(?:bash|sh|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
OURS = re.compile(
    r"(?:accelerate launch|python|torchrun)\b.*?(?:-m )?(train/\w+\.py|(?:train|hub_card|modeling_gpt2scratch)\.[\w.]+)"
)


def commands_of(readme: str) -> list[list[str]]:
    """The command lines in a README: those of its code blocks, and those in backticks."""
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    lines = [line for block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    commands = []
    for line in lines:
        with contextlib.suppress(ValueError):  # a line of a tree, or of Python
            words = shlex.split(line, comments=True)
            if words and (words[0] == "make" or OURS.match(line.split("|")[-1].strip())):
                commands.append(words)
    return commands


COMMANDS = sorted({(readme, *command) for readme in READMES for command in commands_of(readme)})


@cache
def help_of(entry: str) -> str:
    """The text of `--help` of a script or module, all settings included."""
    script = entry.endswith(".py")
    module = entry if script or not importlib.util.find_spec(entry).submodule_search_locations else f"{entry}.__main__"
    out, before, imported = io.StringIO(), sys.argv, sys.modules.pop(module, None)  # by another test; it is run anew
    sys.argv = [entry, "--help_all" if script else "--help"]
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as ended:
            run = runpy.run_path if script else runpy.run_module
            run(str(REPOSITORY / entry) if script else entry, run_name="__main__")
    finally:
        sys.argv = before
        if imported is not None:
            sys.modules[module] = imported
    assert not ended.value.code, out.getvalue()
    return out.getvalue()


@pytest.mark.parametrize("readme", READMES)
def test_its_links_lead_somewhere(readme):
    here = (REPOSITORY / readme).parent
    text = (REPOSITORY / readme).read_text(encoding="utf-8")
    assert [target for target, _ in LINK.findall(text) if not (here / target).exists()] == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:100])
def test_its_commands_exist(command, repository):
    _readme, *words = command
    if words[0] == "make":
        makefile = (repository / "Makefile").read_text()
        targets = [word for word in words[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), words
        return
    (entry,) = [word for word in words if word in RUN_BY][:1]
    options = [word.partition("=")[0] for word in words[words.index(entry) :] if word.startswith("--")]
    shown = help_of(entry)
    assert [option for option in options if option not in shown] == []
    configs = [words[place + 1] for place, word in enumerate(words) if word in ("--config", "--config_file")]
    assert [config for config in configs if "/" in config and not (repository / config).exists()] == []


def test_every_command_of_ours_is_run_by_a_test(repository):
    named = {match[1] for _, *words in COMMANDS if (match := OURS.match(" ".join(words)))}
    assert named <= RUN_BY.keys()
    for entry, file in RUN_BY.items():
        text = (repository / file).read_text()
        module = entry.removesuffix(".py").replace("/", ".")
        package, _, name = module.rpartition(".")
        runs = (entry, module, f"from {package} import {name}")
        assert any(way in text for way in runs), f"{file} does not run {entry}"
