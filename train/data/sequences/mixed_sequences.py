"""Sequences of several datasets as one dataset, each with its share, by arithmetic on their numbers.

With weights, an epoch ends when the dataset that is used up last has had each of its sequences once; the others begin
again until then (`all_exhausted` of `datasets.interleave_datasets`). Without weights, each sequence is used once.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

from torch.utils.data import ConcatDataset, Dataset

from train.data.sequences.prepared_sequences import PreparedSequences


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
