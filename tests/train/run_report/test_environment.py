import os

import pytest
from transformers import TrainingArguments

from train.run_report.environment import (
    describe_command,
    describe_environment,
    shorten_path,
    shorten_paths_in,
)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train/pretrain.py", "--max_steps", "5"], "python train/pretrain.py --max_steps 5"),
        (["/data/mine/code/train.py", "--config=/data/mine/a.yaml"], "python .../train.py --config=.../a.yaml"),
        (["x.py", "--hub_token", "hf_1", "--seed", "1"], "python x.py --hub_token '(hidden)' --seed 1"),
        (["x.py", "--hub_token=hf_1"], "python x.py '--hub_token=(hidden)'"),
        (["x.py", "--sample_prompts", "Who is it?"], "python x.py --sample_prompts 'Who is it?'"),
    ],
)
def test_the_command_tells_how_and_not_who(words, shown):
    assert describe_command(words) == shown


def test_paths_below_the_working_folder_are_relative_to_it():
    assert shorten_path(f"{os.getcwd()}/runs/demo") == "runs/demo"
    assert shorten_path("runs/demo") == "runs/demo"
    assert shorten_path("~/runs/demo") == ".../demo"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("'/data/mine/rows.jsonl': no such file", "'.../rows.jsonl': no such file"),
        (r"C:\Users\me\rows.jsonl: no such file", ".../rows.jsonl: no such file"),
        (
            "see https://huggingface.co/datasets/PleIAs/SYNTH and 3/4",
            "see https://huggingface.co/datasets/PleIAs/SYNTH and 3/4",
        ),
        ("runs/demo/model is short", "runs/demo/model is short"),
    ],
)
def test_paths_in_a_message_are_shortened(message, shown):
    assert shorten_paths_in(message) == shown


def test_versions_and_hardware_are_those_of_this_process(tmp_path):
    import torch

    found = describe_environment(TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True))
    assert found["torch"] == torch.__version__
    assert found["precision"].startswith("bf16")
    assert found["processes"].startswith("1 on cpu, ")
