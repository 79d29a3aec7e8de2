import numpy as np
import pytest
from scipy import stats

from train.evaluation import statistics
from train.evaluation.statistics import (
    MIN_DOCUMENTS,
    PairedTest,
    adjust_for_groups,
    compare,
    mean_per_unit,
    share_interval,
)


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


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    this = [True] * 10 + [False] * 2 + [True] * 50 + [False] * 8
    other = [False] * 10 + [True] * 2 + [True] * 50 + [False] * 8
    test = compare("exact_match", "overall", this, other)
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert test.p == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert (test.this, test.other, test.n) == (60 / 70, 52 / 70, 70)
    assert test.difference == pytest.approx(8 / 70)
    assert test.interval[0] < 8 / 70 < test.interval[1]
    assert test.better == "this"


def test_equal_marks_cannot_be_told_apart():
    test = compare("exact_match", "overall", [True, False] * 10, [True, False] * 10)
    assert (test.p, test.better) == (1.0, None)
    assert "cannot be told apart" in test.sentence("A", "B")


def test_a_planted_difference_of_losses_is_found():
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, 200, size=80).astype(float)
    hardness = tokens * rng.normal(3, 1, size=80)  # far larger than the difference, but the same for both
    this, other = hardness + tokens * rng.normal(0, 0.05, size=80), hardness + tokens * rng.normal(0.05, 0.05, size=80)
    test = compare("loss", "overall", list(this), list(other), list(tokens))
    assert test.better == "this"
    assert test.difference == pytest.approx((this.sum() - other.sum()) / tokens.sum())
    assert test.interval[1] < 0
    assert "A is better than B by 0.0" in test.sentence("A", "B")
    mirrored = compare("loss", "overall", list(other), list(this), list(tokens))
    assert mirrored.better == "other"
    assert "B is better" not in test.sentence("A", "B")


def test_where_there_is_no_difference_5_in_100_are_called_different(monkeypatch):
    monkeypatch.setattr(statistics, "PERMUTATIONS", 999)
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(200):
        this, other = rng.normal(100, 10, size=(2, 30))
        found += compare("loss", "overall", list(this), list(other), [30.0] * 30).better is not None
    assert 2 <= found <= 20


def test_rounding_is_no_difference():
    sums = [100.0 + number for number in range(30)]
    test = compare("loss", "overall", sums, [value * (1 - 1e-7) for value in sums], [30.0] * 30)
    assert (test.p, test.better) == (1.0, None)


def paired(group: str, p: float) -> PairedTest:
    return PairedTest("loss", group, 100, 1.0, 2.0, -1.0, (-1.5, -0.5), p, p, lower_is_better=True)


def test_holms_adjustment_of_known_values():
    # as in Holm's paper: sorted, times what is left, never below the one before
    tests = [paired("overall", 0.04), *(paired(f"exercise {p}", p) for p in (0.01, 0.04, 0.03, 0.005))]
    adjusted = adjust_for_groups(tests)
    assert [test.adjusted_p for test in adjusted] == pytest.approx([0.04, 0.03, 0.06, 0.06, 0.02])
    assert [test.better for test in adjusted] == ["this", "this", None, None, "this"]


def test_sentences_say_which_by_how_much_and_how_sure():
    assert paired("overall", 0.0004).sentence("A", "B") == (
        "loss: A is better than B by 1.0000 (95%: 0.5000 to 1.5000); 1.0000 and 2.0000, n = 100; p < 0.001."
    )
    assert "loss on exercise mcq: " in paired("exercise mcq", 0.01).sentence("A", "B")
    assert paired("exercise mcq", 0.01).sentence("A", "B").endswith("p = 0.010, adjusted.")
