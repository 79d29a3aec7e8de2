"""MLX: mlx-lm opens the export, whose weights have OpenAI's names, and continues prompts alike."""

import json
import subprocess
import sys

from tests.tools.conftest import MOST


# In a process of its own, as MLX's extension module ends one that it cannot share with another.
GENERATE = """
import json, sys, mlx_lm
model, tokenizer = mlx_lm.load(sys.argv[1])
print(json.dumps([
    mlx_lm.generate(model, tokenizer, prompt=prompt, max_tokens=int(sys.argv[2])) for prompt in json.loads(sys.argv[3])
]))
"""


def test_it_continues_prompts_alike(exported_folder, answers):
    command = [sys.executable, "-c", GENERATE, exported_folder, str(MOST), json.dumps(list(answers))]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == list(answers.values())
