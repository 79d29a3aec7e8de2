"""The bytes of text that each id of a tokenizer stands for: what a loss per token becomes bits per byte by."""

import json
import re

from transformers import PreTrainedTokenizerBase


def bytes_of_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Of each id the UTF-8 bytes of its text; 0 of special tokens, such as the end of a text.

    Byte-level tokenizers write each byte as one character, so their sum is exactly that of the text; others write a
    space as U+2581 and single bytes as <0xAB>.
    """
    decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
    is_byte_level = "ByteLevel" in json.dumps(decoder)
    sizes = [0] * (max(tokenizer.get_vocab().values()) + 1)
    special = set(tokenizer.all_special_ids)
    for token, number in tokenizer.get_vocab().items():
        if number not in special:
            text = re.sub("<0x[0-9A-F]{2}>", "x", token).replace("\u2581", " ")
            sizes[number] = len(token) if is_byte_level else len(text.encode())
    return sizes
