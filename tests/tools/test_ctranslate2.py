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
settings = {"max_length": 100, "sampling_topk": 1, "include_prompt_in_result": False, "end_token": "<|endoftext|>"}
print(json.dumps([result.sequences[0] for result in generator.generate_batch(prompts, **settings)]))
"""


def continue_prompts(folder, tokenizer, prompts, place, compute_type):
    quantization = None if compute_type == "float32" else compute_type
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(place), quantization=quantization)
    tokens = json.dumps([tokenizer.tokenize(prompt) for prompt in prompts])
    finished = subprocess.run(
        [sys.executable, "-c", GENERATE, place, compute_type, tokens],
        env=os.environ | {"CT2_USE_MKL": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return [tokenizer.convert_tokens_to_string(tokens) for tokens in json.loads(finished.stdout)]


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
def test_it_continues_prompts_alike(exported_folder, answers, tokenizer, tmp_path, compute_type):
    written = continue_prompts(exported_folder, tokenizer, answers, tmp_path / "converted", compute_type)
    assert written == list(answers.values())


def test_an_own_tokenizer(own, answers, tmp_path):
    written = continue_prompts(own.exported, own.tokenizer, answers, tmp_path / "converted", "float32")
    assert written == list(answers.values())
