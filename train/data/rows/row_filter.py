"""Which rows are trained on, how often, and in which part; decided row by row, so that shards can be read apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from train.data.rows.decontamination import Contamination
from train.data.rows.synth import (
    Row,
    Split,
    article_key,
    reason_to_drop,
    reasoning_of,
    row_to_text,
    seed_article,
    split_of,
)
from train.settings.arguments import DataArguments


@dataclass(frozen=True)
class RowFilter:
    """The settings that choose rows, resolved.

    Args:
        exercise_weights, language_weights: how often a row of that kind is used, on average; 1 where not named.
        contamination: of evaluation sets; `None` where rows are not compared with any.
    """

    languages: list[str] | None = None
    exercises: list[str] | None = None
    require_reasoning: bool = False
    min_row_tokens: int | None = None
    max_row_tokens: int | None = None
    exercise_weights: Mapping[str, float] = field(default_factory=dict)
    language_weights: Mapping[str, float] = field(default_factory=dict)
    validation_fraction: float = 0.02
    split_seed: int = 0
    contamination: Contamination | None = None

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> "RowFilter":
        """Read weights and evaluation sets.

        Raises:
            ValueError: a weight that is none, or an evaluation set that cannot be found.
        """
        return cls(
            arguments.languages,
            arguments.exercises,
            arguments.require_reasoning,
            arguments.min_row_tokens,
            arguments.max_row_tokens,
            parse_weights("exercise_weights", arguments.exercise_weights),
            parse_weights("language_weights", arguments.language_weights),
            arguments.validation_fraction,
            arguments.split_seed,
            Contamination.from_sources(arguments.decontaminate) if arguments.decontaminate else None,
        )

    def judge(self, row: Row) -> tuple[str | None, Split, int]:
        """Why a row is dropped (`None` if it is not), and for a kept one its part and how often it is used."""
        reason = reason_to_drop(row, self.languages, self.exercises)
        if reason is None and self.require_reasoning and not reasoning_of(row):
            reason = "no reasoning"
        if reason is not None:
            return reason, "train", 0
        split = split_of(row, self.validation_fraction, self.split_seed)
        if split is None:
            return "links to articles of both parts", "train", 0
        # Validation rows are used once: weights are for learning.
        times = self.times(row) if split == "train" else 1
        if not times:
            return "weight", split, 0
        if split == "train" and self.contamination is not None and self.contamination.found_in(row_to_text(row)):
            return "contaminated", split, 0
        return None, split, times

    def times(self, row: Row) -> int:
        """How often a row is used: the whole part of its weight, and once more for the fitting share of the rows."""
        weight = self.exercise_weights.get(row["exercise"], 1.0) * self.language_weights.get(row["language"], 1.0)
        if weight == 1:
            return 1
        share = int.from_bytes(article_key(f"{seed_article(row)}\n{row['query']}\n{row['synthetic_answer']}", 1), "big")
        return int(weight) + (share / 2**64 < weight % 1)

    @property
    def most_times(self) -> int:
        """How often a row is used, at most."""
        return math.ceil(max([1, *self.exercise_weights.values()]) * max([1, *self.language_weights.values()]))

    def reason_by_length(self, tokens: int) -> str | None:
        """Why a row of so many tokens is dropped."""
        if self.min_row_tokens is not None and tokens < self.min_row_tokens:
            return "too short"
        if self.max_row_tokens is not None and tokens > self.max_row_tokens:
            return "too long"
        return None


def parse_weights(name: str, words: list[str] | None) -> dict[str, float]:
    """`["rag=2", "mcq=0.5"]` as a dictionary.

    Raises:
        ValueError: a word is not NAME=WEIGHT, or a weight is not in [0, 100].
    """
    weights = {}
    for word in words or []:
        kind, equals, number = word.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not kind or not equals or not 0 <= weight <= 100:
            raise ValueError(f"--{name} {word}: NAME=WEIGHT is wanted, with a weight from 0 to 100, as in rag=2.")
        weights[kind] = weight
    return weights
