"""Contamination: which texts share a run of words with an evaluation set."""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np

from train.data.files.chunk import Columns
from train.data.files.shard_access import read_source
from train.data.files.sources import FORMATS, find_source


logger = logging.getLogger(__name__)

# As in GPT-3's appendix C (Brown et al., 2020): runs of 13 words, lower-cased and without punctuation. A passage of 8
# to 12 words is one gram of its own length; anything shorter would be found everywhere.
GRAM_WORDS = 13
MIN_GRAM_WORDS = 8
# The lowest bits of a gram's hash hold its number of words, so that the hashes alone say which lengths occur. By the
# other 60, grams of different words are taken for the same with a probability of about 10^-18.
LENGTH_BITS = 4
FILES = (".txt", *FORMATS, ".yaml")


class Contamination:
    """Hashed 13-grams of evaluation sets, to be looked for in training texts."""

    def __init__(self, grams: np.ndarray):
        self.grams = grams  # sorted unique hashes (uint64), as `from_sources` makes them
        self._lengths: list[int] = np.unique(grams & (2**LENGTH_BITS - 1)).tolist()
        # Which first bits occur: at most an eighth is marked, so most grams are spared the slow search.
        self._prefix_shift = 64 - 3 - len(grams).bit_length()
        self._prefix_occurs = np.zeros(2 ** (64 - self._prefix_shift), bool)
        self._prefix_occurs[grams >> self._prefix_shift] = True

    @classmethod
    def from_sources(cls, sources: Sequence[str]) -> "Contamination":
        """The grams of all passages of some evaluation sets.

        Args:
            sources: each a path to a .txt file (passages are parted by blank lines), to a file of rows
                (every text in a row is a passage, nested ones too), or to the .yaml of an lm-eval task, or the name of
                a task or group ("hellaswag", "mmlu"): every text in the documents that lm-eval scores a model on.

        Raises:
            ValueError: no such file or task, a file that cannot be read, or no passage of `MIN_GRAM_WORDS` words.
            ConnectionError, datasets.exceptions.DatasetNotFoundError: a task's documents cannot be had from the Hub.
        """
        grams = [gram for source in sources for gram in _source_grams(source)]
        return cls(np.unique(np.concatenate([np.empty(0, np.uint64), *grams])))

    def found_in(self, text: str) -> bool:
        """Whether the words of any gram stand in the text, one after the other."""
        hashes = _word_hashes(text)
        for length in self._lengths:
            grams = _grams(hashes, length)
            grams = grams[self._prefix_occurs[grams >> self._prefix_shift]]
            if (self.grams.take(np.searchsorted(self.grams, grams), mode="clip") == grams).any():
                return True
        return False

    def __len__(self) -> int:
        return len(self.grams)


@lru_cache(2**18)  # nearly all words of a text; about 50 MB in each process
def _hash(word: str) -> int:
    """64 bits, the same in every process, unlike those of `hash`."""
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


# One for each place in a gram, so that the order of the words counts; odd, so that no bit of a word is lost.
MULTIPLIERS = np.array([_hash(f"place {place}") | 1 for place in range(GRAM_WORDS)], np.uint64)


def _word_hashes(text: str) -> np.ndarray:
    """(words,) uint64. A script without spaces, like Chinese, has one "word" from one mark to the next."""
    words = re.findall(r"\w+", text.casefold())
    return np.fromiter(map(_hash, words), np.uint64, count=len(words))


def _grams(word_hashes: np.ndarray, length: int) -> np.ndarray:
    """Hashes of all runs of `length` words: sums of words times multipliers, modulo 2^64."""
    if len(word_hashes) < length:
        return np.empty(0, np.uint64)
    return np.correlate(word_hashes, MULTIPLIERS[:length], "valid") >> LENGTH_BITS << LENGTH_BITS | length


def _source_grams(source: str) -> list[np.ndarray]:
    try:
        passages = [_word_hashes(text) for text in _texts_in(_read(source))]
        grams = [_grams(words, min(len(words), GRAM_WORDS)) for words in passages if len(words) >= MIN_GRAM_WORDS]
        if not grams:
            raise ValueError(f"it has no passage of at least {MIN_GRAM_WORDS} words.")
        looked_for = f"{len(grams):,} of {len(passages):,}"
        logger.info("--decontaminate %s: %s passages have %d words or more.", source, looked_for, MIN_GRAM_WORDS)
    except ValueError as error:  # those of broken UTF-8, Parquet or tasks seldom say where
        raise ValueError(f"--decontaminate {source}: {error}") from error
    return grams


def _texts_in(value: Any) -> Iterator[str]:
    """All strings among the values of nested mappings and sequences."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(item)


def _read(source: str) -> Iterator[Any]:
    """Rows, documents or paragraphs of what `--decontaminate` names."""
    path, ending = Path(expanduser(source)), source.lower()
    if ending.endswith(FILES) and (not path.is_file() or path.stat().st_size == 0):
        raise ValueError("there is no such file, or it is empty.")
    if ending.endswith(".txt"):
        yield from re.split(r"\n\s*\n", path.read_text(encoding="utf-8-sig"))
    elif ending.endswith(FORMATS):
        for batch in read_source(find_source(source), Columns(other=None)):
            if batch.unreadable:
                raise ValueError("it holds text that is no UTF-8.")
            yield from batch.rows
    else:
        # A .yaml goes by the name in it; the tasks of a group may lie beside it.
        tasks = _task_manager(path.parent if path.suffix == ".yaml" else None)
        names = [name for name, entry in tasks.task_index.items() if source == name or path == entry.yaml_path]
        if not names:
            raise ValueError(f"lm-eval finds no such task (see `lm_eval ls tasks`); a file is {', '.join(FILES)}.")
        for task in tasks.load(names)["tasks"].values():
            yield from task.eval_docs


@lru_cache(1)  # it takes seconds to read the descriptions of all tasks
def _task_manager(include_path: Path | None) -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError(
            "anything but a .txt, .jsonl or .parquet file needs lm-eval: pip install -c constraints.txt -e .[lm_eval]"
        ) from error
    return TaskManager(include_path=include_path)
