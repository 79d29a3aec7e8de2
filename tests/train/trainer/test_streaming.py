"""A resumed stream: the Trainer passes over the batches that were used, and nothing is read for it."""

import json

import pytest
from accelerate import skip_first_batches
from torch.utils.data import DataLoader, IterableDataset

from train.data.sequences.streamed_sequences import MixedPlace, Place
from train.run_files import STREAM_FILE
from train.trainer.streaming import NumberedStream, read_places


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


def test_the_places_of_a_checkpoint_are_read_also_from_one_of_an_earlier_version(tmp_path):
    place = {"passes": 1, "chunk": 2, "row": 3, "rest": [4, 5], "sequence": 6, "windows": 7}
    expected = Place(1, 2, 3, (4, 5), 6, 7)
    for noted, found in (
        (place, MixedPlace(0, (expected,))),
        ({"sequences": 8, "places": [place, place]}, MixedPlace(8, (expected, expected))),
    ):
        (tmp_path / STREAM_FILE).write_text(json.dumps({"streams": 1, "places": {"0": noted}}))
        assert read_places(tmp_path, 1) == {0: found}
