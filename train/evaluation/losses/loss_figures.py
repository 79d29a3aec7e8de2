"""Validation loss, perplexity and bits per byte, of all rows and of each exercise and language."""

import math
from collections import defaultdict
from collections.abc import Callable

from train.data.rows.statistics import NOT_NAMED
from train.data.rows.synth import Row
from train.evaluation.losses.document_scores import DocumentScore
from train.evaluation.statistics.intervals import mean_per_unit


LARGEST_EXPONENT = 100.0  # beyond e^100 a perplexity says nothing, and math.exp overflows at e^710

GROUPS: dict[str, Callable[[Row], str]] = {
    "exercise": lambda row: row["exercise"] or NOT_NAMED,
    "language": lambda row: row["language"] or NOT_NAMED,
}


def loss_record(rows: list[Row], scores: list[DocumentScore]) -> dict:
    """`overall`, `by_exercise` and `by_language`, as they stand in evaluation.json; the largest group first."""
    record = {"overall": loss_figures(scores)}
    for kind, name_of in GROUPS.items():
        groups = grouped([name_of(row) for row in rows])
        record[f"by_{kind}"] = {
            name: loss_figures([scores[number] for number in numbers]) for name, numbers in groups.items()
        }
    return record


def loss_figures(scores: list[DocumentScore]) -> dict:
    """Means over the tokens (bits: over the bytes) of some rows, with intervals over the rows."""
    loss = mean_per_unit([score.nats for score in scores], [score.tokens for score in scores])
    bits = mean_per_unit([score.bits for score in scores], [score.text_bytes for score in scores])
    answer = mean_per_unit([score.answer_nats for score in scores], [score.answer_tokens for score in scores])
    return {
        "rows": len(scores),
        "tokens": sum(score.tokens for score in scores),
        "loss": loss.value,
        "loss_interval": loss.interval,
        "perplexity": _exp(loss.value),
        "perplexity_interval": loss.interval and (_exp(loss.interval[0]), _exp(loss.interval[1])),
        "bits_per_byte": bits.value,
        "bits_per_byte_interval": bits.interval,
        "answer_tokens": sum(score.answer_tokens for score in scores),
        "answer_loss": answer.value,
        "answer_loss_interval": answer.interval,
    }


def grouped(names: list[str]) -> dict[str, list[int]]:
    """Each name's places in a list, the commonest name first."""
    places = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return dict(sorted(places.items(), key=lambda item: (-len(item[1]), item[0])))


def _exp(nats: float) -> float:
    return math.exp(min(nats, LARGEST_EXPONENT))
