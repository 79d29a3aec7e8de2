import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from train.data.sequences.packing import collate_sequences, token_dtype
from train.data.sequences.prepared_sequences import PreparedSequences


TOKEN_DTYPE = token_dtype(50257)


def write_files(folder, sizes):
    """Token files of these sizes; token i of them all is i, modulo GPT-2's vocabulary."""
    tokens = np.arange(sum(sizes)) % 50257
    files = []
    for number, part in enumerate(np.split(tokens, np.cumsum(sizes)[:-1]) if sizes else []):
        files.append(folder / f"{number}.u16")
        part.astype(TOKEN_DTYPE).tofile(files[-1])
    return files, tokens


@settings(deadline=None, max_examples=150)
@given(sizes=st.lists(st.just(0) | st.integers(0, 40), max_size=8), sequence_length=st.integers(1, 17))
def test_sequences_are_slices_of_the_files_taken_as_one(tmp_path_factory, sizes, sequence_length):
    files, tokens = write_files(tmp_path_factory.mktemp("tokens"), sizes)
    sequences = PreparedSequences(files, sequence_length)
    assert len(sequences) == len(tokens) // sequence_length
    for number in reversed(range(len(sequences))):
        ids = sequences[number]["input_ids"]
        assert ids.dtype == TOKEN_DTYPE
        assert ids.tolist() == tokens[number * sequence_length : (number + 1) * sequence_length].tolist()


def test_what_does_not_fill_a_sequence_is_left_over(tmp_path):
    files, _ = write_files(tmp_path, [5, 0, 6])
    sequences = PreparedSequences(files, 4)
    assert [sequence["input_ids"].tolist() for sequence in sequences] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("number", [-1, 2, 10**9])
def test_there_is_no_other_sequence(tmp_path, number):
    files, _ = write_files(tmp_path, [5, 6])
    with pytest.raises(IndexError, match=f"sequence {number} of 2"):
        PreparedSequences(files, 4)[number]


def test_only_the_first_sequences_can_be_taken(tmp_path):
    files, _ = write_files(tmp_path, [5, 6, 9])
    sequences = PreparedSequences(files, 4)
    for first in (
        sequences.first(3),
        PreparedSequences(files, 4, limit=3),
        sequences.first(4).first(3),
        sequences.first(3).first(9),
    ):
        assert [sequence["input_ids"].tolist() for sequence in first] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
        assert len(first) == 3
    assert len(sequences.first(99)) == len(sequences) == 5


def test_no_file_gives_no_sequence():
    assert len(PreparedSequences([], 4)) == 0


def test_pickled_they_do_not_carry_their_content(tmp_path):
    files, tokens = write_files(tmp_path, [50_000, 50_000])
    sequences = PreparedSequences(files, 10)
    before = [sequences[number]["input_ids"].tolist() for number in (0, 9_999)]  # maps both files
    pickled = pickle.dumps(sequences)
    assert len(pickled) < len(tokens) * TOKEN_DTYPE.itemsize / 50
    copy = pickle.loads(pickled)
    assert [copy[number]["input_ids"].tolist() for number in (0, 9_999)] == before


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes_read_them(tmp_path, start):
    files, tokens = write_files(tmp_path, [30, 0, 50])
    sequences = PreparedSequences(files, 8)
    assert len(sequences[0]["input_ids"]) == 8  # a file is mapped when the workers start
    loader = DataLoader(
        sequences,
        batch_size=2,
        num_workers=2,
        collate_fn=collate_sequences,
        multiprocessing_context=start,
        shuffle=False,
    )
    assert np.concatenate([batch["input_ids"].flatten() for batch in loader]).tolist() == tokens.tolist()
