"""Usable rows that are left out for what other rows hold: those that a validation set named apart has, too, and
duplicates."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from train.data.files.chunk import Chunk
from train.data.rows.synth import article_key
from train.data.sequences.preparation import Preparation


KEY_DTYPE = np.dtype(">u8")  # of articles, on disk
DOCUMENT_DTYPE = np.dtype("<u8")  # of keys of documents, which are searched where they lie


class LeftOut:
    """Judges the rows of a chunk in their order, or those of all."""

    def __init__(self, preparation: Preparation, came_before: np.ndarray | None = None):
        self.preparation = preparation
        # Keys of the documents before: of those in other chunks that come again in this one, and then of its own.
        self._came_before: set[int] | None = None if came_before is None else set(came_before.tolist())

    @classmethod
    def of_chunk(cls, preparation: Preparation, chunk: Chunk) -> "LeftOut":
        if not preparation.drop_duplicates:
            return cls(preparation)
        file = duplicates_file(preparation, chunk)
        return cls(preparation, np.fromfile(file, DOCUMENT_DTYPE) if file.exists() else np.empty(0, DOCUMENT_DTYPE))

    def reason(self, articles: list[str], texts: list[str]) -> str | None:
        """Why a row that touches these articles and gives these texts is left out."""
        if self.preparation.validation is not None and is_among({*articles, *texts}, self._held_out).any():
            return "in the validation set"
        if self._came_before is not None:
            key = document_key(texts)
            if key in self._came_before:
                return "duplicate"
            self._came_before.add(key)
        return None

    @cached_property
    def _held_out(self) -> np.ndarray:
        """The keys of a validation set, which is whole."""
        assert self.preparation.validation is not None
        return unique_keys(articles_files(self.preparation.validation.chunk_folders, "validation"))


def document_key(texts: list[str]) -> int:
    """Of 64 bits: one of a billion documents is taken for another with a probability of one in forty."""
    return int.from_bytes(article_key("\0".join(texts)), "big")


def duplicates_file(preparation: Preparation, chunk: Chunk) -> Path:
    """Keys of the chunk's documents that stand in an earlier chunk, too; no file where there are none."""
    return preparation.duplicates_folder / "found" / f"{chunk.name}.u64"


def is_among(articles: Iterable[str], keys: np.ndarray) -> np.ndarray:
    """For each article, whether its key is one of these, which are sorted."""
    asked = np.frombuffer(b"".join(map(article_key, articles)), KEY_DTYPE).astype(np.uint64)
    if not len(keys):
        return np.zeros(len(asked), dtype=bool)
    return keys.take(np.searchsorted(keys, asked), mode="clip") == asked


def articles_file(split: str) -> str:
    """In a chunk's folder: the keys of the articles that its documents touch."""
    return f"{split}.articles.u64"


def articles_files(chunk_folders: list[Path], split: str) -> list[Path]:
    return [folder / articles_file(split) for folder in chunk_folders]


def unique_keys(files: list[Path]) -> np.ndarray:
    """Sorted."""
    # np.unique and np.isin fail at some of another byte order.
    keys = [np.fromfile(file, KEY_DTYPE).astype(np.uint64) for file in files]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))
