"""Build this folder's tokenizer files from OpenAI's published GPT-2 vocabulary.

    python -m modeling_gpt2scratch.tokenizer.build encoder.json vocab.bpe

The two files are those of https://github.com/openai/gpt-2 (its `download_model.py` fetches them); their SHA-256 sums
below are the ones that tiktoken pins for its `gpt2` encoding. Only needed to check or repeat the build.
"""

import argparse
import hashlib
import json
from pathlib import Path

from transformers import GPT2Tokenizer


SHA256 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
CONTEXT_TOKENS = 1024  # GPT-2's; stored so that tools can truncate to it


def build_tokenizer(encoder_json: Path, vocab_bpe: Path, output_folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`; `chat_template.jinja` is read from this folder.

    Raises:
        ValueError: one of the two files is not OpenAI's.
    """
    for path, expected in zip((encoder_json, vocab_bpe), SHA256.values(), strict=True):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(f"{path} is not OpenAI's GPT-2 file: SHA-256 {found}, expected {expected}.")
    vocabulary = json.loads(encoder_json.read_text(encoding="utf-8"))
    # The first line is a version comment; each other line is one merge, most frequent first.
    merges = [tuple(line.split()) for line in vocab_bpe.read_text(encoding="utf-8").splitlines()[1:] if line]
    tokenizer = GPT2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_TOKENS)
    tokenizer.chat_template = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
    tokenizer.save_pretrained(output_folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder_json", type=Path, help="OpenAI's encoder.json: token to id")
    parser.add_argument("vocab_bpe", type=Path, help="OpenAI's vocab.bpe: the merges")
    parser.add_argument("--output_folder", type=Path, default=Path(__file__).parent, help="default: this folder")
    arguments = parser.parse_args()
    build_tokenizer(arguments.encoder_json, arguments.vocab_bpe, arguments.output_folder)
