"""`transformers serve` and the openai client: the export is served; custom code is not, by any model."""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import openai
import pytest


SERVE = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--device", "cpu"]


@pytest.fixture(scope="module")
def client(exported_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen([*SERVE, "--port", port, str(exported_folder)], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(240):
            assert server.poll() is None, server.stderr.read()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise TimeoutError("the server did not come up in two minutes")
        yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    finally:
        server.terminate()
        server.communicate(timeout=60)


@pytest.mark.slow
def test_completions(client, exported_folder, answers):
    for prompt, answer in answers.items():
        completion = client.completions.create(model=str(exported_folder), prompt=prompt, max_tokens=40, temperature=0)
        assert completion.choices[0].text == answer
        assert completion.choices[0].finish_reason == "stop"


@pytest.mark.slow
def test_chat_in_the_template_of_the_folder(client, exported_folder, answers):
    """The template opens the reasoning part, the model goes on from there; streamed, too."""
    prompt, answer = next(iter(answers.items()))
    chat = {
        "model": str(exported_folder),
        "messages": [{"role": "user", "content": prompt.removeprefix("Q: ")}],
        "max_tokens": 40,
        "temperature": 0,
    }
    expected = answer.removeprefix("\n\nReasoning:\n")
    assert client.chat.completions.create(**chat).choices[0].message.content == expected
    stream = client.chat.completions.create(**chat, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == expected


@pytest.mark.slow
def test_the_custom_folder_is_not_served(custom_folder):
    """It looks the class up in transformers itself, so the README says to serve the export. To be told when it ends."""
    command = [*SERVE, "--port", "0", "--trust-remote-code", str(custom_folder)]
    server = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert server.returncode != 0
    assert "module transformers has no attribute GPT2ScratchForCausalLM" in server.stderr
