"""Shared fixtures: tiny models whose every parameter is random, and child processes that cannot import the package."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from modeling_gpt2scratch.hf_gpt2 import config_to_hf, weights_from_hf


# An installed package wins over the code saved in a folder, so a child process that shall prove the saved code must not
# see the package; it is installed in editable mode, hence a finder that refuses it.
WITHOUT_PACKAGE = """
import json, os, sys, traceback

class RefusePackage:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "modeling_gpt2scratch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, RefusePackage())
try:
    import modeling_gpt2scratch
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("the child process can import the package")

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

def logits_of(model):
    return model(torch.arange(20).view(2, 10)).logits.detach()

# Each code runs in a process of its own, forked from this one, which has imported what they need.
print("ready", flush=True)
for line in sys.stdin:
    code, *sys.argv[1:] = json.loads(line)
    if os.fork() == 0:
        status = 1
        try:
            exec(code, globals())
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.fixture
def tiny_config():
    """No dropout, so that two forward passes are comparable in training mode, too."""
    return GPT2ScratchConfig(
        vocab_size=211,
        n_positions=64,
        n_embd=32,
        n_layer=3,
        n_head=4,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=210,
        eos_token_id=210,
    )


@pytest.fixture
def randomise():
    """Give every parameter a random value: initial biases are 0 and norms 1, which would hide a swap or a loss."""

    @torch.no_grad()
    def randomise(model, std=0.1, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            centre = (
                1.0
                if ("norm" in name and name.endswith("weight")) or (".ln_" in name and name.endswith("weight"))
                else 0.0
            )
            parameter.copy_(centre + std * torch.randn(parameter.shape, generator=generator))
        return model

    return randomise


@pytest.fixture
def tiny_model(tiny_config, randomise):
    return randomise(GPT2ScratchForCausalLM(tiny_config)).eval()


@pytest.fixture
def tiny_stock(tiny_config, randomise):
    return randomise(GPT2LMHeadModel(config_to_hf(tiny_config))).eval()


@pytest.fixture
def twins(tiny_config, tiny_stock):
    """Hugging Face's GPT-2 with random weights, and our model with the same."""
    ours = GPT2ScratchForCausalLM(tiny_config)
    ours.load_state_dict(weights_from_hf(tiny_stock.state_dict()))
    return tiny_stock, ours.eval()


@pytest.fixture
def input_ids(tiny_config):
    """(3, 20); 210 is the end-of-text token and never drawn."""
    return torch.randint(210, (3, 20), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def four_sizes():
    """The configs of the published sizes, and the number of parameters of each."""
    return {
        "gpt2": (GPT2Config(), 124_439_808),
        "gpt2-medium": (GPT2Config(n_embd=1024, n_layer=24, n_head=16), 354_823_168),
        "gpt2-large": (GPT2Config(n_embd=1280, n_layer=36, n_head=20), 774_030_080),
        "gpt2-xl": (GPT2Config(n_embd=1600, n_layer=48, n_head=25), 1_557_611_200),
    }


@pytest.fixture(scope="session")
def process_without_package(tmp_path_factory):
    """The process, with caches of its own, and the file of its errors."""
    home = tmp_path_factory.mktemp("hf_home")
    environment = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-c", WITHOUT_PACKAGE]
    errors = home / "errors.txt"
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors.open("w"),
        text=True,
    )
    assert process.stdout.readline() == "ready\n", errors.read_text()
    yield process, errors
    process.stdin.close()
    process.wait(60)


@pytest.fixture
def run_without_package(process_without_package):
    """Run Python code in a process that cannot import the package."""
    process, errors = process_without_package

    def run(code, *arguments):
        process.stdin.write(json.dumps([textwrap.dedent(code), *map(str, arguments)]) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "0\n", errors.read_text()

    return run
