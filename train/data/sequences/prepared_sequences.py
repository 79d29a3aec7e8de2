"""Sequences of tokens on disk as a dataset: memory-mapped files, one after the other, read where they lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset


DTYPES: dict[str, np.dtype] = {".u16": np.dtype("<u2"), ".u32": np.dtype("<u4")}  # by the end of a file's name


class PreparedSequences(Dataset):
    """Sequence i is tokens `i * sequence_length` to `(i + 1) * sequence_length` of the files taken as one.

    Nothing is copied, whatever their number: a sequence is read from disk when it is
    asked for. With a limit there are only the first so many.
    """

    def __init__(self, files: Sequence[Path], sequence_length: int, limit: int | None = None):
        self.files = [file for file in files if file.exists() and file.stat().st_size]  # an empty one cannot be mapped
        self.sequence_length = sequence_length
        sizes = [file.stat().st_size // DTYPES[file.suffix].itemsize for file in self.files]
        self.ends = np.cumsum(sizes, dtype=np.int64)
        sequences = sum(sizes) // sequence_length
        self.sequences = sequences if limit is None else min(sequences, limit)
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.sequences

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        if not 0 <= number < self.sequences:
            raise IndexError(f"sequence {number} of {self.sequences}")
        start, length = number * self.sequence_length, self.sequence_length
        file = int(np.searchsorted(self.ends, start, side="right"))
        parts = []
        while length:
            begin = start - (int(self.ends[file - 1]) if file else 0)
            part = self._map(file)[begin : begin + length]
            parts.append(part)
            start, length, file = start + len(part), length - len(part), file + 1
        return {"input_ids": np.concatenate(parts)}

    def first(self, sequences: int) -> "PreparedSequences":
        """Only the first so many."""
        return PreparedSequences(self.files, self.sequence_length, min(sequences, self.sequences))

    def __getstate__(self) -> dict:
        return {**vars(self), "_maps": {}}  # a worker process maps the files for itself: pickled, a map is its content

    def _map(self, file: int) -> np.ndarray:
        if file not in self._maps:
            self._maps[file] = np.memmap(self.files[file], DTYPES[self.files[file].suffix], mode="r")
        return self._maps[file]
