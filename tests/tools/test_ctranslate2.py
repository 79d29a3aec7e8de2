"""CTranslate2: converts the export, and continues prompts alike, also with 8-bit integers."""

import json
import os
import subprocess
import sys

import ctranslate2
import pytest


# In a process of its own, as the library reads its environment once. CT2_USE_MKL: on processors that have AVX2 and no
# VNNI, and are not Intel's, the kernels that it chooses by itself are reported to give other tokens in 8 bits.
GENERATE = """
import json, sys, ctranslate2
folder, compute_type, prompts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
generator = ctranslate2.Generator(folder, compute_type=compute_type)
settings = {"max_length": 40, "sampling_topk": 1, "include_prompt_in_result": False, "end_token": "<|endoftext|>"}
print(json.dumps([result.sequences[0] for result in generator.generate_batch(prompts, **settings)]))
"""


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
def test_it_continues_prompts_alike(exported_folder, answers, tokenizer, tmp_path, compute_type):
    quantization = None if compute_type == "float32" else compute_type
    ctranslate2.converters.TransformersConverter(str(exported_folder)).convert(
        str(tmp_path / "converted"), quantization=quantization
    )
    prompts = json.dumps([tokenizer.tokenize(prompt) for prompt in answers])
    finished = subprocess.run(
        [sys.executable, "-c", GENERATE, tmp_path / "converted", compute_type, prompts],
        env=os.environ | {"CT2_USE_MKL": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    written = [tokenizer.convert_tokens_to_string(tokens) for tokens in json.loads(finished.stdout)]
    assert written == list(answers.values())
