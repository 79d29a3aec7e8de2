"""Train a tokenizer on one's own text: a byte-level BPE, beside GPT-2's.

    python -m train.tokenizer --dataset rows.parquet --vocab_size 8192 --output_dir my_tokenizer
    python -m train.tokenizer --dataset you/name --pattern gpt4 --split_digits true --output_dir my_tokenizer
    accelerate launch -q train/pretrain.py --config RECIPE --tokenizer my_tokenizer     # a run with it

The folder opens with `AutoTokenizer.from_pretrained`. It also holds comparison.json and comparison.png: bytes per token
by language, and the share of words kept whole, beside GPT-2's, on validation texts, which are not trained on.
"""

import itertools
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from train.buildable import check_folder
from train.data.from_settings import to_preparations
from train.data.rows.reading import texts_of
from train.data.rows.synth import Split
from train.errors import in_one_line
from train.settings.arguments import DataArguments, setting
from train.settings.parser import OneLineParser
from train.tokenizer.comparison import compare_tokenizers, draw_comparison, render_comparison
from train.tokenizer.opening import open_tokenizer
from train.tokenizer.training import SMALLEST, train_tokenizer


logger = logging.getLogger("train.tokenizer")

MOST_COMPARED = 5_000
COMPARISON_FILE = "comparison.json"
PICTURE_FILE = "comparison.png"


@dataclass
class TokenizerArguments:
    """The tokenizer to train."""

    output_dir: str = setting("The folder to write, which must be new or hold an earlier tokenizer only.")
    vocab_size: int = setting("Ids: 256 bytes, the merges, and the end of a text.", 8192)
    pattern: Literal["gpt2", "gpt4"] = setting("Where words are split: as GPT-2, or as GPT-4 (cl100k_base).", "gpt2")
    split_digits: bool = setting("Each digit is a token of its own.", False)

    def __post_init__(self) -> None:
        if self.vocab_size < SMALLEST:
            raise ValueError(f"--vocab_size {self.vocab_size} must be at least {SMALLEST}: 256 bytes and the end.")
        if self.output_dir is None:
            raise ValueError("--output_dir is missing: name a new folder.")
        folder = Path(self.output_dir).expanduser()
        check_folder("output_dir", folder)
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        others = sorted(names - {COMPARISON_FILE, PICTURE_FILE, "chat_template.jinja"})
        if [name for name in others if not name.startswith("tokenizer")]:
            raise ValueError(f"--output_dir {folder} holds other files ({', '.join(others[:3])}): name a new folder.")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        kinds = (DataArguments, TokenizerArguments)
        parser = OneLineParser(kinds, prog="python -m train.tokenizer", description=__doc__)
        source, settings = parser.parse_args_into_dataclasses(argv)
        sys.stdout.write(train(source, settings) + "\n")
    except (ValueError, OSError) as error:
        logger.error("train.tokenizer: %s", in_one_line(error))
        return 2
    return 0


def train(source: DataArguments, settings: TokenizerArguments) -> str:
    """Train, compare and write; returns the comparison as text."""
    gpt2 = open_tokenizer(None)
    preparations = to_preparations(source, gpt2)
    sources = [(one.source, one.row_filter, source.max_samples) for one in preparations]
    texts = itertools.chain.from_iterable(itertools.starmap(texts_of, sources))
    texts = tqdm(texts, desc="Reading", unit=" texts", mininterval=1)
    compared: list[tuple[str, str | None]] = []
    if (apart := preparations[0].validation) is not None:
        validation = itertools.islice(texts_of(apart.source, apart.row_filter), MOST_COMPARED)
        compared += [(text, language) for text, language, _ in validation]
    training = _without_validation(texts, compared)
    tokenizer = train_tokenizer(training, settings.vocab_size, settings.pattern, settings.split_digits, progress=True)
    if len(tokenizer) < settings.vocab_size:
        logger.warning("The text gives %s ids only, less than --vocab_size.", f"{len(tokenizer):,}")
    figures = compare_tokenizers({"this one": tokenizer, "GPT-2": gpt2}, compared)
    folder = Path(settings.output_dir).expanduser()
    tokenizer.save_pretrained(folder)
    (folder / COMPARISON_FILE).write_text(json.dumps(figures, indent=2, ensure_ascii=False), encoding="utf-8")
    draw_comparison(figures, folder / PICTURE_FILE)
    return f"{render_comparison(figures)}\n\n{folder}"


def _without_validation(texts: Iterable[tuple[str, str | None, Split]], compared: list) -> Iterator[str]:
    """The texts to train on, none of which is in `compared`; validation texts go there, and if it is empty, the first
    text, too."""
    held_out = {text for text, _ in compared}
    for number, (text, language, split) in enumerate(texts):
        is_for_both = number == 0 and not held_out
        if (is_for_both or split == "validation") and len(compared) < MOST_COMPARED:
            compared.append((text, language))
        if is_for_both or (split == "train" and text not in held_out):
            yield text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
