"""Trains a byte-level BPE on text: the commonest pairs of tokens are joined, from the 256 bytes on."""

from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from modeling_gpt2scratch import TOKENIZER_FOLDER


Pattern = Literal["gpt2", "gpt4"]
END_OF_TEXT = "<|endoftext|>"
SMALLEST = 257  # the 256 bytes and the end of a text
# How a text is split into the pieces that no token crosses. GPT-2's is that of its encoder.py
# (https://github.com/openai/gpt-2); GPT-4's keeps upper-case contractions together, lets one sign stand before a word,
# ends pieces at line ends, and cuts numbers to three digits: `cl100k_base` in https://github.com/openai/tiktoken.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
# By pattern, and whether each digit stands alone. llama.cpp knows them as gpt-2, not at all, dbrx and qwen2.
SPLITS: dict[tuple[Pattern, bool], str] = {
    ("gpt2", False): GPT2,
    ("gpt2", True): GPT2.replace(r"\p{N}+|", r"\p{N}|"),
    ("gpt4", False): GPT4,
    ("gpt4", True): GPT4.replace("{1,3}", ""),
}


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    pattern: Pattern = "gpt2",
    split_digits: bool = False,
    context_tokens: int = 1024,
    progress: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer with the end-of-text token and the chat template of GPT-2's here; the same texts give the same one.

    The distinct pieces are held with their counts: memory grows with the words of a language, not with the text.

    Args:
        vocab_size: with the 256 bytes and the end-of-text token. A small text can give fewer.
        split_digits: each digit is a token of its own, so that numbers are read by their places.
        context_tokens: stored so that tools can truncate to it; a run stores its model's.

    Raises:
        ValueError: the vocabulary is too small, or the texts are empty.
    """
    if vocab_size < SMALLEST:
        raise ValueError(f"--vocab_size {vocab_size} must be at least {SMALLEST}: 256 bytes and {END_OF_TEXT}.")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[pattern, split_digits]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=progress,
    )
    texts = _noted(texts, found := [0])
    backend.train_from_iterator(texts, trainer)
    if not found[0]:
        raise ValueError("The text to train on is empty: name rows or files with --dataset that hold some.")
    # No text is unknown to bytes; GPT-2's names a token for it all the same, and CTranslate2 opens no model without.
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=context_tokens, **special)
    tokenizer.chat_template = AutoTokenizer.from_pretrained(TOKENIZER_FOLDER).chat_template
    return tokenizer


def _noted(texts: Iterable[str], characters: list[int]) -> Iterable[str]:
    for text in texts:
        characters[0] += len(text)
        yield text
