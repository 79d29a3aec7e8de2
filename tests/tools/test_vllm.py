"""vLLM: a custom folder, with an own tokenizer, through its Transformers backend; the export through its own GPT-2."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.tools.conftest import HARD_TEXTS


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["custom, own tokenizer", "exported"])
def test_equal_ids_and_greedy_text(layout, own, exported_folder, tokenizer, answers, repository):
    """In an environment of its own, which `make tools` sets up: vLLM wants other versions of what we build on."""
    python = repository / ".venv-vllm" / "bin" / "python"
    folder, trust = (exported_folder, "plain") if layout == "exported" else (own.custom, "trust")
    texts = [json.dumps(list(answers)), json.dumps(HARD_TEXTS)]
    finished = subprocess.run(
        [python, Path(__file__).with_name("vllm_greedy.py"), folder, trust, *texts],
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},  # in GiB
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    (found,) = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith('{"written')]
    used = tokenizer if layout == "exported" else own.tokenizer
    assert found["token_ids"] == used(HARD_TEXTS, split_special_tokens=True)["input_ids"]
    assert found["written"] == list(answers.values())
    log = finished.stdout + finished.stderr
    assert ("Using Transformers modeling backend" in log) == (trust == "trust")
    if trust == "trust":
        assert "Fused: q_proj + k_proj + v_proj" in log
