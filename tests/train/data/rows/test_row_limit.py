import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from train.data.files.shard_reading import RowBatch
from train.data.rows.row_limit import Limit, up_to
from train.data.rows.statistics import DatasetStatistics


def make_batches(sizes, row):
    """Batches of rows numbered through; each says 10 bytes were read for it, and one unreadable row."""
    batches, number = [], 0
    for index, size in enumerate(sizes):
        rows = [row(n) for n in range(number, number + size)]
        batches.append(RowBatch(rows, {"invalid UTF-8": 1}, index, 10))
        number += size
    return batches


def consume(limit, batches, fates, most_times):
    """What `documents_of` and its user do with `up_to`: a batch's counts are added when the next is in their hands.

    Args:
        fates: of each row: its part ("train", "validation" or `None` where it is dropped), its tokens, and its uses.

    Returns:
        The numbers of the rows that were handed out, the batches, and the counts.
    """
    statistics, waiting, handed_out, taken = DatasetStatistics(), [], [], []
    for batch in up_to(limit, batches, statistics, most_times):
        handed_out += [int(row["synth_id"].removeprefix("test-")) for row in batch.rows]
        taken.append(batch)
        waiting.append(batch)
        if len(waiting) > 1:
            statistics.add(counts_of(waiting.pop(0), fates))
    for batch in waiting:
        statistics.add(counts_of(batch, fates))
    return handed_out, taken, statistics


def counts_of(batch, fates):
    counts = DatasetStatistics(rows_read=len(batch.rows) + sum(batch.unreadable.values()))
    for row in batch.rows:
        split, tokens, times = fates[int(row["synth_id"].removeprefix("test-"))]
        if split is not None:
            counts.kept_rows[split] += 1
            counts.tokens[split] += tokens * times
    return counts


def rows_up_to(limit, fates):
    """The numbers of the rows up to the one that reaches the limit, row by row."""
    statistics = DatasetStatistics()
    for number, (split, tokens, times) in enumerate(fates):
        if limit.reached_by(statistics):
            return list(range(number))
        if split is not None:
            statistics.kept_rows[split] += 1
            statistics.tokens[split] += tokens * times
    return list(range(len(fates)))


# At most 200 tokens: a row of this length, some 50 characters, cannot have more.
FATES = st.tuples(st.sampled_from(["train", "train", "validation", None]), st.integers(1, 200), st.integers(1, 3))
LIMITS = st.builds(Limit, st.none() | st.integers(1, 25), st.none() | st.integers(1, 4000))


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=LIMITS, sizes=st.lists(st.integers(0, 12), max_size=6), data=st.data())
def test_rows_end_with_the_one_that_reaches_the_limit(row, limit, sizes, data):
    fates = data.draw(st.lists(FATES, min_size=sum(sizes), max_size=sum(sizes)))
    batches = make_batches(sizes, row)
    handed_out, taken, statistics = consume(limit, batches, fates, most_times=3)
    assert handed_out == rows_up_to(limit, fates)
    assert sum(batch.bytes for batch in taken) <= 10 * len(batches)
    if not limit.reached_by(statistics):
        assert sum(batch.bytes for batch in taken) == 10 * len(batches)
        assert statistics.rows_read == sum(sizes) + len(sizes)


@pytest.mark.parametrize("sizes", [[2, 2], [1, 1, 1, 1], [4], [3, 1]])
def test_rows_in_flight_may_be_as_long_as_rows_can_be(row, sizes):
    """The third reaches the limit; while the first two are tokenised, no one knows that."""
    fates = [("train", 200, 3)] * 4
    for tokens in (1201, 1300, 1800):
        assert consume(Limit(tokens=tokens), make_batches(sizes, row), fates, most_times=3)[0] == [0, 1, 2]


def test_no_limit_hands_on_the_batches_as_they_are(row):
    batches = make_batches([3, 0, 2], row)
    assert list(up_to(Limit(), batches, DatasetStatistics(), 1)) == batches


def test_far_from_the_limit_batches_stay_whole(row):
    batches = make_batches([10, 10, 10], row)
    _, taken, _ = consume(Limit(rows=10**6, tokens=10**9), batches, [("train", 50, 1)] * 30, most_times=1)
    assert taken == batches


def test_what_a_batch_says_of_its_file_is_handed_on(row):
    batch = RowBatch([row(number) for number in range(5)], {"invalid UTF-8": 2}, 7, 10, ["the rest"])
    _, taken, statistics = consume(Limit(rows=9), [batch], [("train", 50, 1)] * 5, most_times=1)
    assert statistics.rows_read == 7
    assert [one.next_place for one in taken] == [7] * len(taken)
    assert [skipped for one in taken for skipped in one.skipped] == ["the rest"]


def test_a_limit_that_is_reached_hands_out_nothing(row):
    assert list(up_to(Limit(rows=0), make_batches([3], row), DatasetStatistics(), 1)) == []
    assert list(up_to(Limit(tokens=5), make_batches([3], row), counts_of_tokens(5), 1)) == []


def counts_of_tokens(tokens):
    statistics = DatasetStatistics()
    statistics.tokens["train"] = tokens
    return statistics


@pytest.mark.parametrize(
    ("limit", "is_reached"),
    [
        (Limit(), False),
        (Limit(rows=7), True),
        (Limit(rows=8), False),
        (Limit(tokens=100), True),
        (Limit(tokens=101), False),
        (Limit(rows=8, tokens=100), True),
        (Limit(rows=8, tokens=101), False),
    ],
)
def test_rows_of_both_parts_and_training_tokens_are_counted(limit, is_reached):
    statistics = DatasetStatistics()
    statistics.kept_rows.update(train=5, validation=2)
    statistics.tokens.update(train=100, validation=1000)
    assert limit.reached_by(statistics) is is_reached
    left = limit.less(statistics)
    assert (left.rows, left.tokens) == (
        None if limit.rows is None else limit.rows - 7,
        None if limit.tokens is None else limit.tokens - 100,
    )
    assert bool(left) is bool(limit) is (limit != Limit())
