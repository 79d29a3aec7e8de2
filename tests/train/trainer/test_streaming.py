"""A resumed stream: the Trainer passes over the batches that were used, and nothing is read for it."""

import pytest
from accelerate import skip_first_batches
from torch.utils.data import DataLoader, IterableDataset

from train.trainer.streaming import NumberedStream


class Counter(IterableDataset):
    """Stands for a stream at its place: gives the numbers from 100 on, and notes how many it gave."""

    def __init__(self):
        self.given = 0

    def __iter__(self):
        while True:
            self.given += 1
            yield 99 + self.given


@pytest.mark.parametrize("workers", [0, 1])
def test_skipping_takes_nothing_from_the_stream(workers):
    stream = Counter()
    loader = DataLoader(NumberedStream(stream, 12), batch_size=2, collate_fn=list, num_workers=workers)
    assert len(loader) == 6
    assert list(skip_first_batches(loader, 4)) == [[100, 101], [102, 103]]
    assert stream.given == (0 if workers else 4)
