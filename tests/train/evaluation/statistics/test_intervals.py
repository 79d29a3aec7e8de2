import numpy as np
import pytest
from scipy import stats

from train.evaluation.statistics.intervals import MIN_DOCUMENTS, mean_per_unit, share_interval


def test_the_interval_of_a_share_is_wilsons():
    # worked by hand: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), p = 0.8, n = 10
    assert share_interval(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)
    low, high = share_interval(0, 20)
    assert low == 0.0
    assert 0.1 < high < 0.2


def test_with_documents_of_equal_length_the_interval_is_students():
    sums = np.random.default_rng(0).normal(30, 5, size=12)
    mean, interval = mean_per_unit(list(sums), [10.0] * 12)
    expected = stats.ttest_1samp(sums / 10, 0).confidence_interval(0.95)
    assert mean == pytest.approx(sums.mean() / 10)
    assert interval == pytest.approx((expected.low, expected.high))


def test_the_interval_of_documents_of_different_length_holds_the_true_mean_in_95_of_100_samples():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        tokens = rng.integers(5, 200, size=60).astype(float)
        # long documents are easier, and the tokens of one are alike: as independent tokens they would mislead
        nats = tokens * (4 - tokens / 200 + rng.normal(0, 0.5, size=60))
        _, (low, high) = mean_per_unit(nats, tokens)
        lengths = np.arange(5, 200)
        true = (lengths * (4 - lengths / 200)).sum() / lengths.sum()
        held += low < true < high
    assert 0.93 < held / 2000 < 0.965


def test_too_few_documents_have_no_interval():
    assert mean_per_unit([1.0, 3.0], [1.0, 1.0]) == (2.0, None)
    assert mean_per_unit([1.0] * (MIN_DOCUMENTS - 1), [1.0] * (MIN_DOCUMENTS - 1))[1] is None
    assert mean_per_unit([1.0] * MIN_DOCUMENTS, [1.0] * MIN_DOCUMENTS)[1] is not None
