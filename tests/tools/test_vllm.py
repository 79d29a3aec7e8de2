"""vLLM: the custom folder through its Transformers backend, the export through its own GPT-2."""

import json
import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["custom", "exported"])
def test_equal_greedy_tokens(layout, custom_folder, exported_folder, answers, repository):
    """In an environment of its own, which `make tools` sets up: vLLM wants other versions of what we build on."""
    python = repository / ".venv-vllm" / "bin" / "python"
    folder, trust = {"custom": (custom_folder, "trust"), "exported": (exported_folder, "plain")}[layout]
    finished = subprocess.run(
        [python, Path(__file__).with_name("vllm_greedy.py"), folder, trust, json.dumps(list(answers))],
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},  # in GiB
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    written = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith('["')]
    assert written == [list(answers.values())]
    log = finished.stdout + finished.stderr
    assert ("Using Transformers modeling backend" in log) == (layout == "custom")
    if layout == "custom":
        assert "Fused: q_proj + k_proj + v_proj" in log
