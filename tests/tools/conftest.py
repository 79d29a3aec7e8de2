"""A small model that has learned a few answers by heart, in the two folders that tools are given: with GPT-2's
tokenizer, and with one of its own."""

import random
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM, save_as_hf_gpt2
from modeling_gpt2scratch.loading import drop_padding
from train.build_model import suppress_padding
from train.tokenizer.training import train_tokenizer


QUESTIONS = {
    "What is the capital city of Japan?": ("Japan's seat of government is Tokyo.", "Tokyo"),
    "How many legs has a spider?": ("A spider is an arachnid, and those have eight.", "Eight"),
    "Which gas do plants take in?": ("Photosynthesis uses light, water and carbon dioxide.", "Carbon dioxide"),
    "Who wrote Hamlet?": ("Hamlet is an English tragedy of about 1600.", "William Shakespeare"),
}
TEXTS = [
    f"Q: {question}\n\nReasoning:\n{why}\n\nA: {answer}<|endoftext|>" for question, (why, answer) in QUESTIONS.items()
]
PROMPTS = [f"Q: {question}" for question in QUESTIONS]
ANSWERS = [text.removeprefix(prompt) for text, prompt in zip(TEXTS, PROMPTS, strict=True)]
MOST = 100  # tokens of an answer: more than any has
# Where tokenizers disagree: spaces and line ends of all kinds, digits, contractions, signs, scripts, broken emoji.
PARTS = [
    *"ab1 27\n\r\t'sTé.,-!ß日本🙂\u200d\u0301½²٣\u00a0\u2028\x85\u3000ſ",
    "'LL",
    "'ve",
    "   ",
    "\n\n",
    "12345",
    "<|endoftext|>",
]
DRAWN = random.Random(0)
HARD_TEXTS = ["".join(DRAWN.choices(PARTS, k=DRAWN.randint(1, 40))) for _ in range(300)]


def learn(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> GPT2ScratchForCausalLM:
    """It continues each of PROMPTS with its one of ANSWERS, by a margin that rounding in other engines cannot undo."""
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"vocab_size": vocab_size, "n_embd": 128, "n_layer": 2, "n_head": 2}
    config = GPT2ScratchConfig(**sizes, **ends, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    model = GPT2ScratchForCausalLM(config).train()
    # Apart, as a tool is given the prompt: own tokenizers may join its last sign and the line end behind.
    prompts, answers = tokenizer(PROMPTS)["input_ids"], tokenizer(ANSWERS)["input_ids"]
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.2, loss  # no less is to be had: the question itself is not known beforehand
    return model.eval()


def check_answers(model: GPT2ScratchForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        continued = model.generate(ids, max_new_tokens=MOST, do_sample=False, pad_token_id=tokenizer.eos_token_id)
        assert tokenizer.decode(continued[0, ids.shape[1] :]) == answer


@pytest.fixture(scope="session")
def learned(tokenizer) -> GPT2ScratchForCausalLM:
    return learn(tokenizer, len(tokenizer))


@pytest.fixture(scope="session")
def custom_folder(learned, tokenizer, tmp_path_factory) -> Path:
    """As training saves it: opens with this package, or with `trust_remote_code`."""
    folder = tmp_path_factory.mktemp("custom")
    learned.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def exported_folder(learned, tokenizer, tmp_path_factory) -> Path:
    """The same model as a plain GPT-2."""
    return save_as_hf_gpt2(learned, tokenizer, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def answers(learned, tokenizer) -> dict[str, str]:
    """{prompt: what the model continues it with}, as every tool must continue it, too."""
    check_answers(learned, tokenizer)
    return {prompt: text.removesuffix("<|endoftext|>") for prompt, text in zip(PROMPTS, ANSWERS, strict=True)}


class Own(NamedTuple):
    """A model with a tokenizer of its own, and its folders."""

    tokenizer: PreTrainedTokenizerBase
    custom: Path
    exported: Path


@pytest.fixture(scope="session", params=[("gpt4", True)], ids=str)
def own(request, tmp_path_factory) -> Own:
    """The same answers, with a tokenizer of this pattern and these digits, and a vocabulary that is padded as
    `--pad_vocab_to_multiple_of 64` does. The padded ids are likelier than any other: a tool that had them would write
    them."""
    folder = tmp_path_factory.mktemp("own")
    train_tokenizer(TEXTS, 400, *request.param).save_pretrained(folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    ids = len(tokenizer)
    assert ids % 64
    model = learn(tokenizer, 64 * (ids // 64 + 1))
    embedding = model.get_input_embeddings().weight.data
    embedding[ids:] = 100 * embedding[5]
    embedding[ids + 1 :] *= -1
    suppress_padding(model, ids)
    check_answers(model, tokenizer)
    save_as_hf_gpt2(model, tokenizer, folder / "exported")
    drop_padding(model, ids)  # as the end of a training does
    for part in (model, tokenizer):
        part.save_pretrained(folder / "custom")
    return Own(tokenizer, folder / "custom", folder / "exported")
