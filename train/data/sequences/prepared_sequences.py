"""Sequences of tokens on disk as a dataset: memory-mapped files, read where they lie; and those of several datasets as
one, each with its share, by arithmetic on their numbers.

With weights, an epoch ends when the dataset that is used up last has had each of its sequences once; the others begin
again until then (`all_exhausted` of `datasets.interleave_datasets`). Without weights, each sequence is used once.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset, Dataset


DTYPES: dict[str, np.dtype] = {".u16": np.dtype("<u2"), ".u32": np.dtype("<u4")}  # by the end of a file's name
MOST_PASSES = 1000  # over a dataset in an epoch: beyond, the weights are a mistake


def to_shares(weights: Sequence[float]) -> list[Fraction]:
    """Weights as parts of one, exact as they are written."""
    exact = [Fraction(str(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


def apportion(total: int, shares: Sequence[Fraction]) -> list[int]:
    """Whole numbers that add up to `total`, each less than one from its share."""
    exact = [total * share for share in shares]
    counts = [math.floor(part) for part in exact]
    nearest = sorted(range(len(exact)), key=lambda number: counts[number] - exact[number])
    for number in nearest[: total - sum(counts)]:
        counts[number] += 1
    return counts


def epoch_counts(sizes: Sequence[int], weights: Sequence[float] | None, multiple: int) -> list[int]:
    """Sequences of each dataset in an epoch, a multiple of so many together; `sizes` are those that there are.

    Raises:
        ValueError: they do not fill one such multiple, or a dataset would be passed over more than `MOST_PASSES` times.
    """
    shares = to_shares(weights or sizes)
    least = max(math.ceil(size / share) for size, share in zip(sizes, shares, strict=True))
    # Whole batches only: every step then sees the same number of tokens, whatever the number of processes.
    total = (-(-least // multiple) if weights and least >= multiple else least // multiple) * multiple
    if not total:
        raise ValueError(
            f"{least:,} training sequences do not fill one batch of {multiple:,}: lower "
            "--per_device_train_batch_size, --gradient_accumulation_steps or --sequence_length, or give more rows."
        )
    counts = apportion(total, shares)
    passes = max(count / size for count, size in zip(counts, sizes, strict=True))
    if weights and passes > MOST_PASSES:
        raise ValueError(
            f"--dataset_weights {' '.join(map(str, weights))}: in an epoch, which ends when each sequence of all "
            f"datasets was used, one of them would be passed over {passes:,.0f} times, and {MOST_PASSES:,} are the "
            "limit: raise the weights of the largest, or take less of them by --max_tokens."
        )
    return counts


def validation_counts(sizes: Sequence[int], weights: Sequence[float] | None, most: int | None) -> list[int]:
    """Validation sequences of each dataset: as many as have the shares without using one twice, and one at least."""
    shares = to_shares(weights or sizes)
    total = min(math.floor(size / share) for size, share in zip(sizes, shares, strict=True))
    counts = apportion(min(total, most or total), shares)
    return [min(max(count, 1), size) for count, size in zip(counts, sizes, strict=True)]


def interleaved(position: int, counts: Sequence[int]) -> tuple[int, int]:
    """Which dataset stands at a position of an epoch, and how many of its sequences before: spread as evenly as can be.

    The first dataset is spread over all positions, the second over those that the first leaves, and so on.
    """
    left = sum(counts)
    for number, count in enumerate(counts[:-1]):
        before = position * count // left
        if (position + 1) * count // left > before:
            return number, before
        position, left = position - before, left - count
    return len(counts) - 1, position


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


class MixedSequences(Dataset):
    """An epoch of the sequences of several datasets."""

    def __init__(self, parts: Sequence[PreparedSequences], counts: Sequence[int]):
        self.parts = parts
        self.counts = counts  # of each part's sequences in the epoch; more than there are begin anew

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, number: int) -> dict:
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {number} of {len(self)}")
        part, place = interleaved(number, self.counts)
        return self.parts[part][place % len(self.parts[part])]


class ValidationParts(ConcatDataset):
    """Validation sequences of several datasets, one dataset after the other."""

    def __init__(self, parts: Sequence[PreparedSequences], names: list[str]):
        super().__init__(parts)
        self.names = names
