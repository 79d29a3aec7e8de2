"""Compares tokenizers on the same texts: bytes per token, words kept whole, samples; as text and picture."""

import re
from collections import Counter, defaultdict
from pathlib import Path

from tabulate import tabulate
from transformers import PreTrainedTokenizerBase


WORD = re.compile(r"\w+")
SAMPLES = (
    "It's 12,345 kilometres from here.",
    "Die Straßenverkehrsordnung, l'après-midi, jutro rano",
    "def add(a, b):\n    return a + b",
)
PICTURE_INCHES = 8.0


def compare_tokenizers(tokenizers: dict[str, PreTrainedTokenizerBase], texts: list[tuple[str, str | None]]) -> dict:
    """Of each tokenizer, by its name: `vocabulary`; `bytes_per_token` of all texts and by language; `words_whole`, the
    share of the words of these texts that are one token behind a space; and `samples`, split.

    Args:
        texts: each with its language, or `None`.
    """
    by_language: dict[str, list[str]] = defaultdict(list)
    for text, language in texts:
        by_language[language or "(none)"].append(text)
    languages = sorted(by_language, key=lambda name: -len(by_language[name]))
    groups = {"all": [text for text, _ in texts]} | (
        {name: by_language[name] for name in languages} if len(languages) > 1 else {}
    )
    words = Counter(word for text, _ in texts for word in WORD.findall(text))
    figures = {}
    for name, tokenizer in tokenizers.items():
        pieces = tokenizer([f" {word}" for word in words], split_special_tokens=True)["input_ids"]
        whole = sum(count for count, ids in zip(words.values(), pieces, strict=True) if len(ids) == 1)
        figures[name] = {
            "vocabulary": len(tokenizer),
            "bytes_per_token": {group: _bytes_per_token(tokenizer, some) for group, some in groups.items()},
            "words_whole": whole / max(words.total(), 1),
            "samples": [_split(tokenizer, sample) for sample in SAMPLES],
        }
    return figures


def _bytes_per_token(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    token_ids = tokenizer(texts, split_special_tokens=True, return_attention_mask=False, verbose=False)["input_ids"]
    return sum(len(text.encode()) for text in texts) / max(sum(map(len, token_ids)), 1)


def _split(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    return [tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]


def render_comparison(figures: dict) -> str:
    """The figures as a table, one column a tokenizer, and the samples below."""
    groups = next(iter(figures.values()))["bytes_per_token"]
    rows = [
        ["vocabulary", *(f"{one['vocabulary']:,}" for one in figures.values())],
        *(
            [f"bytes per token: {group}", *(f"{one['bytes_per_token'][group]:.2f}" for one in figures.values())]
            for group in groups
        ),
        ["words kept whole", *(f"{one['words_whole']:.1%}" for one in figures.values())],
    ]
    lines = [
        f"{name:>{max(map(len, figures))}}: {'|'.join(one['samples'][place])!r}"
        for place in range(len(SAMPLES))
        for name, one in figures.items()
    ]
    align = ("left", *["right"] * len(figures))
    table = tabulate(rows, ["", *figures], tablefmt="plain", disable_numparse=True, colalign=align)
    return "\n".join([table, "", *lines])


def draw_comparison(figures: dict, file: Path) -> None:
    """Draw bytes per token by language, one bar a tokenizer."""
    from matplotlib.figure import Figure  # heavy, and wanted at the end only

    groups = list(next(iter(figures.values()))["bytes_per_token"])
    figure = Figure(figsize=(PICTURE_INCHES, 1.2 + 0.4 * len(groups)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(figures)
    for number, (name, one) in enumerate(figures.items()):
        places = [row + number * height for row in range(len(groups))]
        label = f"{name} ({one['vocabulary']:,} ids, {one['words_whole']:.0%} of the words whole)"
        bars = axes.barh(places, list(one["bytes_per_token"].values()), height, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(groups))], groups)
    axes.invert_yaxis()
    axes.set_xlabel("bytes of text per token (more is shorter)")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25 if len(groups) < 4 else -0.12))
    figure.savefig(file, dpi=120)
