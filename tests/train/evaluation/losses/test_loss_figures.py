import math

import pytest

from train.evaluation.losses.document_scores import DocumentScore
from train.evaluation.losses.loss_figures import grouped, loss_figures, loss_record


def score(nats: float, tokens: int, text_bytes: int = 10) -> DocumentScore:
    return DocumentScore(nats, tokens, answer_nats=nats / 2, answer_tokens=1, text_bytes=text_bytes)


def test_figures_by_hand():
    figures = loss_figures([score(6.0, 2, 4), score(2.0, 6, 12)])
    assert (figures["rows"], figures["tokens"]) == (2, 8)
    assert figures["loss"] == 1.0  # of tokens, and not of documents
    assert figures["perplexity"] == pytest.approx(math.e)
    assert figures["bits_per_byte"] == pytest.approx(8 / math.log(2) / 16)
    assert (figures["answer_tokens"], figures["answer_loss"]) == (2, 2.0)


def test_the_interval_of_perplexity_is_that_of_the_loss():
    figures = loss_figures([score(2.0 + number / 10, 2) for number in range(10)])
    low, high = figures["loss_interval"]
    assert low < figures["loss"] < high
    assert figures["perplexity_interval"] == pytest.approx((math.exp(low), math.exp(high)))


def test_a_loss_beyond_all_measure_has_a_finite_perplexity():
    assert loss_figures([score(1e6, 2)])["perplexity"] == math.exp(100)


def test_groups_are_told_apart(row):
    rows = [row(0), row(1, exercise="mcq"), row(2), row(3, language="fr", exercise=None)]
    record = loss_record(rows, [score(2.0, 1), score(4.0, 1), score(6.0, 1), score(8.0, 1)])
    assert record["overall"]["loss"] == 5.0
    assert {name: one["loss"] for name, one in record["by_exercise"].items()} == {
        "memorization": 4.0,
        "(none)": 8.0,
        "mcq": 4.0,
    }
    assert list(record["by_language"]) == ["en", "fr"]


def test_the_commonest_group_comes_first():
    assert grouped(["b", "a", "c", "a"]) == {"a": [1, 3], "b": [0], "c": [2]}
