"""Validation loss, perplexity and bits per byte, of all rows and of each exercise and language."""

import math
from collections import defaultdict

from train.data.rows.statistics import NOT_NAMED
from train.data.rows.synth import Row
from train.evaluation.losses.document_scores import DocumentScore
from train.evaluation.statistics import mean_per_unit


LARGEST_EXPONENT = 100.0  # beyond e^100 a perplexity says nothing, and math.exp overflows at e^710


def loss_record(rows: list[Row], scores: list[DocumentScore]) -> dict:
    """`overall`, `by_exercise`, `by_language` and of a mixture `by_dataset`, as in evaluation.json, largest first."""
    record = {"overall": loss_figures(scores)}
    for kind, names in name_groups(rows).items():
        record[f"by_{kind}"] = {
            name: loss_figures([scores[number] for number in numbers]) for name, numbers in grouped(names).items()
        }
    return record


def name_groups(rows: list[Row]) -> dict[str, list[str]]:
    """Each row's exercise, each row's language, and of a mixture each row's dataset."""
    kinds = ("exercise", "language", *(["dataset"] if any("dataset" in row for row in rows) else []))
    return {kind: [row.get(kind) or NOT_NAMED for row in rows] for kind in kinds}


def loss_figures(scores: list[DocumentScore]) -> dict:
    """Means over the tokens (bits: over the bytes) of some rows, with intervals over the rows; `None` of no answers."""
    tokens, answer_tokens = [score.tokens for score in scores], [score.answer_tokens for score in scores]
    loss, loss_interval = mean_per_unit([score.nats for score in scores], tokens)
    bits, bits_interval = mean_per_unit([score.bits for score in scores], [score.text_bytes for score in scores])
    answer_loss, answer_loss_interval = None, None
    if any(answer_tokens):
        answer_loss, answer_loss_interval = mean_per_unit([score.answer_nats for score in scores], answer_tokens)
    return {
        "rows": len(scores),
        "tokens": sum(tokens),
        "loss": loss,
        "loss_interval": loss_interval,
        "perplexity": _exp(loss),
        "perplexity_interval": loss_interval and tuple(map(_exp, loss_interval)),
        "bits_per_byte": bits,
        "bits_per_byte_interval": bits_interval,
        "answer_tokens": sum(answer_tokens),
        "answer_loss": answer_loss,
        "answer_loss_interval": answer_loss_interval,
    }


def grouped(names: list[str]) -> dict[str, list[int]]:
    """Each name's places in a list, the commonest name first."""
    places = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return dict(sorted(places.items(), key=lambda item: (-len(item[1]), item[0])))


def _exp(nats: float) -> float:
    return math.exp(min(nats, LARGEST_EXPONENT))
