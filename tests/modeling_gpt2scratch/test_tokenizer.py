"""GPT-2's tokenizer: tiktoken is the reference."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modeling_gpt2scratch import TOKENIZER_FOLDER
from modeling_gpt2scratch.tokenizer.build import build_tokenizer
from train.data.files.sources import SAMPLE_FOLDER


GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def byte_of_character() -> dict[str, int]:
    """GPT-2 writes bytes as printable characters: those that are printable as themselves, the others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def make_reference() -> tiktoken.Encoding:
    """tiktoken's gpt2, with the ranks (equal to the ids) from our file, as the original lies on the network."""
    vocabulary = json.loads((TOKENIZER_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    special = {"<|endoftext|>": vocabulary.pop("<|endoftext|>")}
    bytes_of = byte_of_character()
    ranks = {bytes(bytes_of[letter] for letter in token): rank for token, rank in vocabulary.items()}
    return tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


REFERENCE = make_reference()
TOKENIZER = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER)
PIECES = [
    "<|endoftext|>",
    "\r\n",
    "\n\n",
    "  ",
    "\t",
    "\x00",
    "🤖",
    "é",
    "e\u0301",
    "\u200b",
    "don't",
    "I'LL",
    " 12",
    "中",
]


def encode(text: str) -> list[int]:
    return TOKENIZER(text, split_special_tokens=True, verbose=False)["input_ids"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES) | st.text(max_size=5)).map("".join)))
def test_odd_text_gives_tiktokens_ids_and_comes_back(text):
    ids = encode(text)
    assert ids == REFERENCE.encode_ordinary(text)
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text
    assert 50256 not in ids


def test_real_text_gives_tiktokens_ids(repository: Path):
    files = [SAMPLE_FOLDER / "train.parquet", *sorted((repository.parent / "shared" / "corpus").glob("*.parquet"))[:2]]
    texts = [path.read_text(encoding="utf-8") for path in repository.rglob("*.md")]
    for file in files:
        for row in pq.read_table(file).slice(0, 500).to_pylist():
            texts += [row["query"], row["synthetic_answer"]]
    assert len(texts) > 900
    for text in filter(None, texts):
        assert encode(text) == REFERENCE.encode_ordinary(text)


def test_special_tokens_are_gpt2s():
    assert len(TOKENIZER) == REFERENCE.n_vocab == 50_257
    assert TOKENIZER.eos_token_id == TOKENIZER.bos_token_id == REFERENCE.eot_token == 50_256
    assert TOKENIZER.model_max_length == 1024


def test_end_of_text_is_a_token_to_a_user_and_text_in_data():
    assert TOKENIZER("a<|endoftext|>b")["input_ids"] == [64, 50256, 65]
    assert encode("a<|endoftext|>b") == REFERENCE.encode_ordinary("a<|endoftext|>b")
    assert TOKENIZER("a<|endoftext|>b")["input_ids"] == [64, 50256, 65]  # the choice does not stick


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So.", "reasoning_content": "It is."},
]


def test_the_chat_template_writes_the_training_format():
    text = TOKENIZER.apply_chat_template(CHAT, tokenize=False)
    assert text == "Be brief.\n\nQ: Why?\n\nReasoning:\nIt is.\n\nA: So.<|endoftext|>"
    short = [CHAT[1], {"role": "assistant", "content": "So."}]
    assert TOKENIZER.apply_chat_template(short, tokenize=False) == "Q: Why?\n\nA: So.<|endoftext|>"


def test_the_assistant_mask_covers_what_the_assistant_says():
    encoded = TOKENIZER.apply_chat_template(CHAT, return_assistant_tokens_mask=True, return_dict=True)
    said = [token for token, ours in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if ours]
    assert TOKENIZER.decode(said) == "Reasoning:\nIt is.\n\nA: So.<|endoftext|>"


def test_the_generation_prompt_is_the_beginning_of_the_conversations_ids():
    """GPT-2 encodes a blank line at the end of a text as one token, and before more text as two."""
    prompt = TOKENIZER.apply_chat_template(CHAT[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = TOKENIZER.apply_chat_template(CHAT, return_dict=True)["input_ids"]
    assert whole[: len(prompt)] == prompt


def test_the_generation_prompt_without_reasoning_leads_to_the_answer():
    chat = [CHAT[1], {"role": "assistant", "content": "So."}]
    prompt = TOKENIZER.apply_chat_template(chat[:1], add_generation_prompt=True, use_reasoning=False, tokenize=False)
    assert prompt == "Q: Why?\n\nA:"
    whole = TOKENIZER.apply_chat_template(chat, return_dict=True)["input_ids"]
    assert whole[: len(encode(prompt))] == encode(prompt)


def test_an_unknown_role_is_refused():
    with pytest.raises(Exception, match="Unknown role 'tool'"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_the_build_gives_the_shipped_files_from_openais_two(tmp_path):
    """OpenAI's files are written again from the vocabulary here: the build takes them by their SHA-256 alone."""
    model = json.loads((TOKENIZER_FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocabulary = dict(sorted(model["vocab"].items(), key=lambda entry: entry[1]))
    encoder, merges = tmp_path / "encoder.json", tmp_path / "vocab.bpe"
    encoder.write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    merges.write_text("\n".join(lines) + "\n", encoding="utf-8")
    build_tokenizer(encoder, merges, tmp_path / "built")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "built" / name).read_text() == (TOKENIZER_FOLDER / name).read_text()
    merges.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.bpe is not OpenAI's GPT-2 file"):
        build_tokenizer(encoder, merges, tmp_path / "other")
