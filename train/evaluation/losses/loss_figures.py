"""Validation loss, perplexity and bits per byte, of all rows and of each exercise and language."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass

from train.data.rows.synth import Row
from train.data.sequences.documents import NOT_NAMED
from train.evaluation.intervals import Interval, mean_per_unit
from train.evaluation.losses.document_scores import DocumentScore


LARGEST_EXPONENT = 100.0  # beyond e^100 a perplexity says nothing, and math.exp overflows at e^710

GROUPS: dict[str, Callable[[Row], str]] = {
    "exercise": lambda row: row["exercise"] or NOT_NAMED,
    "language": lambda row: row["language"] or NOT_NAMED,
}


@dataclass(frozen=True)
class LossFigures:
    """Of some rows. Each interval holds the true mean of rows like these with 95% confidence, over documents.

    Args:
        rows, tokens: that were scored, end-of-text tokens included.
        loss: mean over tokens, in nats.
        perplexity: e to the loss.
        bits_per_byte: all nats in bits, over the bytes of the texts as UTF-8: comparable across tokenizers.
        answer_loss: mean over the answers' tokens, each answer's end-of-text token included.
    """

    rows: int
    tokens: int
    loss: float
    loss_interval: Interval | None
    perplexity: float
    perplexity_interval: Interval | None
    bits_per_byte: float
    bits_per_byte_interval: Interval | None
    answer_tokens: int
    answer_loss: float
    answer_loss_interval: Interval | None

    @classmethod
    def of(cls, scores: list[DocumentScore]) -> "LossFigures":
        loss = mean_per_unit([score.nats for score in scores], [score.tokens for score in scores])
        bits = mean_per_unit([score.bits for score in scores], [score.text_bytes for score in scores])
        answer = mean_per_unit([score.answer_nats for score in scores], [score.answer_tokens for score in scores])
        return cls(
            *(len(scores), sum(score.tokens for score in scores)),
            *(loss.value, loss.interval),
            perplexity=_exp(loss.value),
            perplexity_interval=None if loss.interval is None else (_exp(loss.interval[0]), _exp(loss.interval[1])),
            bits_per_byte=bits.value,
            bits_per_byte_interval=bits.interval,
            answer_tokens=sum(score.answer_tokens for score in scores),
            answer_loss=answer.value,
            answer_loss_interval=answer.interval,
        )


def loss_record(rows: list[Row], scores: list[DocumentScore]) -> dict:
    """`overall`, `by_exercise` and `by_language`, as they stand in evaluation.json; the largest group first."""
    record = {"overall": asdict(LossFigures.of(scores))}
    for kind, name_of in GROUPS.items():
        groups = grouped([name_of(row) for row in rows])
        record[f"by_{kind}"] = {
            name: asdict(LossFigures.of([scores[number] for number in numbers])) for name, numbers in groups.items()
        }
    return record


def grouped(names: list[str]) -> dict[str, list[int]]:
    """Each name's places in a list, the commonest name first."""
    places = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return dict(sorted(places.items(), key=lambda item: (-len(item[1]), item[0])))


def _exp(nats: float) -> float:
    return math.exp(min(nats, LARGEST_EXPONENT))
