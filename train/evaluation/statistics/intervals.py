"""95% intervals: of a share of right answers, and of a mean over tokens that come in documents."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


CONFIDENCE = 0.95
MIN_DOCUMENTS = 5  # with fewer, the spread between them is hardly known, and an interval says nothing

Interval = tuple[float, float]


def share_interval(right: int, asked: int) -> Interval:
    """Wilson's score interval: sensible for few questions, and where none or all are right."""
    interval = stats.binomtest(right, asked).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mean_per_unit(
    sums: Sequence[float] | np.ndarray, units: Sequence[float] | np.ndarray
) -> tuple[float, Interval | None]:
    """The mean of all documents' sums (nats) per unit (token, byte), and its interval; `None` for too few documents.

    Tokens of one document are alike, so documents, and not tokens, are what was sampled: the standard error is that of
    a ratio of two means (Cochran, Sampling Techniques, 1977, section 2.11), the interval Student's with one degree of
    freedom less than there are documents.
    """
    sums, units = np.asarray(sums, np.float64), np.asarray(units, np.float64)
    documents, value = len(sums), float(sums.sum() / units.sum())
    if documents < MIN_DOCUMENTS:
        return value, None
    error = math.sqrt(documents / (documents - 1) * float(((sums - value * units) ** 2).sum())) / float(units.sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, documents - 1)) * error
    return value, (value - half, value + half)
