"""95% intervals of shares and means, and whether two models differ by more than chance, on the same rows and questions.

Exact match is tested by McNemar's exact test (a binomial test on the questions that only one of the two answers
rightly), losses by a permutation test that exchanges the two models' sums at random within documents. The p values of
groups are adjusted by Holm's method, so that if all groups are equal one is called different in at most 5% of
evaluations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats


CONFIDENCE = 0.95
MIN_DOCUMENTS = 5  # with fewer, the spread between them is hardly known, and an interval says nothing
PERMUTATIONS = 9999  # so the smallest p is 1 / 10,000
ROUNDING = 1e-5
OVERALL = "overall"

Interval = tuple[float, float]


def share_interval(right: int, asked: int) -> Interval:
    """Wilson's score interval: sensible for few questions, and where none or all are right."""
    interval = stats.binomtest(right, asked).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mean_per_unit(
    sums: Sequence[float] | np.ndarray, units: Sequence[float] | np.ndarray
) -> tuple[float, Interval | None]:
    """The mean of all documents' sums (nats) per unit (token, byte), and its interval; `None` for too few documents.

    Tokens of one document are alike, so the documents count as the sample, and not the tokens. The standard error is
    that of a ratio of two means (Cochran, Sampling Techniques, 1977, section 2.11). The interval is Student's, with one
    degree of freedom less than there are documents.
    """
    sums, units = np.asarray(sums, np.float64), np.asarray(units, np.float64)
    documents, value = len(sums), float(sums.sum() / units.sum())
    if documents < MIN_DOCUMENTS:
        return value, None
    error = math.sqrt(documents / (documents - 1) * float(((sums - value * units) ** 2).sum())) / float(units.sum())
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, documents - 1)) * error
    return value, (value - half, value + half)


@dataclass(frozen=True)
class PairedTest:
    """Of one measure on one group of rows or questions."""

    measure: str
    group: str
    n: int  # documents or questions
    this: float
    other: float
    difference: float  # this - other
    interval: Interval | None  # 95%, of the difference
    p: float  # how often a difference as large, either way, would come by chance if the models were equal
    adjusted_p: float  # after Holm's adjustment for all groups that are tested with it; p for all rows together
    lower_is_better: bool

    @property
    def better(self) -> str | None:
        """ "this" or "other", or `None` where the difference cannot be told from chance."""
        if self.adjusted_p > 1 - CONFIDENCE:
            return None
        return "this" if (self.difference < 0) == self.lower_is_better else "other"

    def sentence(self, this: str, other: str) -> str:
        form = ".4f" if self.lower_is_better else ".1%"
        overall = self.group == OVERALL
        measure = self.measure.replace("_", " ") + ("" if overall else f" on {self.group}")
        p = "p < 0.001" if self.adjusted_p < 0.001 else f"p = {self.adjusted_p:.3f}"
        p += "" if overall else ", adjusted"
        values = f"{self.this:{form}} and {self.other:{form}}, n = {self.n:,}"
        if self.better is None:
            return f"{measure}: {this} and {other} cannot be told apart ({values}; {p})."
        first, second = (this, other) if self.better == "this" else (other, this)
        gap = f"{abs(self.difference):{form}}"
        if self.interval is not None:
            low, high = sorted(math.copysign(1, self.difference) * end for end in self.interval)
            gap += f" (95%: {low:{form}} to {high:{form}})"
        return f"{measure}: {first} is better than {second} by {gap}; {values}; {p}."

    def to_record(self, this: str, other: str) -> dict:
        """One of `tests` in evaluation.json."""
        values = {name: value for name, value in vars(self).items() if name != "lower_is_better"}
        return {**values, "better": self.better, "sentence": self.sentence(this, other)}


def compare(
    measure: str, group: str, this: Sequence[float], other: Sequence[float], units: Sequence[float] | None = None
) -> PairedTest:
    """Test two models on the same questions or documents.

    Args:
        this, other: of each question whether the answer is right; of each document a sum of nats or bits.
        units: of each document its tokens or bytes, equal for both models: the means are over them.
    """
    p = _mcnemar_p(this, other) if units is None else _permutation_p(this, other)
    over = np.ones(len(this)) if units is None else np.asarray(units)
    difference, interval = mean_per_unit(np.subtract(this, other, dtype=float), over)
    return PairedTest(
        measure=measure,
        group=group,
        n=len(this),
        this=float(np.sum(this) / over.sum()),
        other=float(np.sum(other) / over.sum()),
        difference=difference,
        interval=interval,
        p=p,
        adjusted_p=p,
        lower_is_better=units is not None,
    )


def _mcnemar_p(this: Sequence[float], other: Sequence[float]) -> float:
    changes = np.subtract(this, other, dtype=int)
    gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
    return float(stats.binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def _permutation_p(this: Sequence[float], other: Sequence[float]) -> float:
    # The same weights in another layout differ by rounding, which chance does not explain.
    if len(this) < 2 or np.allclose(this, other, rtol=ROUNDING):
        return 1.0
    result = stats.permutation_test(
        (np.asarray(this), np.asarray(other)),
        lambda a, b, axis: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=500,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def adjust_for_groups(tests: list[PairedTest]) -> list[PairedTest]:
    """Holm's adjustment (Holm, 1979) of the tests of single groups; those of all rows together stay as they are."""
    places = [place for place, test in enumerate(tests) if test.group != OVERALL]
    adjusted, largest = list(tests), 0.0
    for rank, place in enumerate(sorted(places, key=lambda place: tests[place].p)):
        largest = max(largest, min(1.0, tests[place].p * (len(places) - rank)))
        adjusted[place] = replace(tests[place], adjusted_p=largest)
    return adjusted
