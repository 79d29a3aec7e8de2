"""What all tests share: no network, and the smallest model and data that show the behaviour."""

import os


# Before any library reads them: nothing here may depend on the Hub, or on how many cores the machine has.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gpt2scratch import TOKENIZER_FOLDER


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parent.parent
