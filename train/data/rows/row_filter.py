"""Which rows are trained on, how often, and in which part; decided row by row, so that shards can be read apart."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from train.data.rows.decontamination import Contamination
from train.data.rows.schemas import SYNTH, Schema
from train.data.rows.statistics import DatasetStatistics
from train.data.rows.synth import Row, Split, article_key, part_of


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowFilter:
    """Which rows are used."""

    languages: list[str] | None = None
    exercises: list[str] | None = None
    require_reasoning: bool = False
    min_row_tokens: int | None = None
    max_row_tokens: int | None = None
    # How often a row of that kind is used, on average; 1 where not named.
    exercise_weights: Mapping[str, float] = field(default_factory=dict)
    language_weights: Mapping[str, float] = field(default_factory=dict)
    validation_fraction: float = 0.02
    split_seed: int = 0
    evaluation_sets: tuple[str, ...] = ()  # files and lm-eval tasks, whose words no training row may share
    schema: Schema = SYNTH
    # What was read of evaluation sets, by their names; `replace` hands it on, so that it is read once for all datasets.
    known: dict[tuple[str, ...], Contamination] = field(default_factory=dict, compare=False, repr=False)

    @property
    def contamination(self) -> Contamination | None:
        """Of the evaluation sets; read when it is first asked for, which can take minutes and raise a ValueError."""
        if self.evaluation_sets and self.evaluation_sets not in self.known:
            self.known[self.evaluation_sets] = Contamination.from_sources(self.evaluation_sets)
        return self.known.get(self.evaluation_sets)

    def fingerprint(self) -> dict:
        """Everything that decides which rows are used; files and tasks of evaluation sets by their content, too, which
        is read for that."""
        grams = [] if self.contamination is None else [hashlib.sha256(self.contamination.grams.tobytes()).hexdigest()]
        values = {**asdict(replace(self, known={})), "evaluation_files": grams}  # the names by which rows are found
        del values["known"]
        columns = values.pop("schema")["columns"]
        return values if self.schema.name == SYNTH.name else {**values, "schema": [self.schema.name, columns]}

    def warn_of_misspelt(self, statistics: DatasetStatistics) -> None:
        """Say which languages and exercises the settings name, and no row has that was read."""
        languages = {*(self.languages or ()), *self.language_weights} - statistics.rows_read_by_language.keys()
        exercises = {*(self.exercises or ()), *self.exercise_weights} - statistics.rows_read_by_exercise.keys()
        if unmet := [f"language {name}" for name in languages] + [f"exercise {name}" for name in exercises]:
            logger.warning("No row that was read has %s, which the settings name.", " or ".join(sorted(unmet)))

    def reason_by_kind(self, row: Row) -> str | None:
        """Why a row is dropped, if it is not of the languages and exercises; one that does not say is not, either."""
        for kind, names in (("language", self.languages), ("exercise", self.exercises)):
            if names is not None and row.get(kind) not in names:
                return f"other {kind}"
        return None

    def judge(self, row: Row) -> tuple[str | None, Split, int]:
        """Why a row is dropped (`None` if it is not), and for a kept one its part and how often it is used."""
        reason = self.reason_by_kind(row) or self.schema.reason_to_drop(row)
        if reason is None and self.require_reasoning and not self.schema.has_reasoning(row):
            reason = "no reasoning"
        if reason is not None:
            return reason, "train", 0
        split = part_of(self.schema.articles(row), self.validation_fraction, self.split_seed)
        if split is None:
            return "links to articles of both parts", "train", 0
        # Validation rows are used once: weights are for learning.
        times = self.times(row) if split == "train" else 1
        if not times:
            return "weight", split, 0
        looked_for = self.contamination if split == "train" else None
        if looked_for is not None and any(map(looked_for.found_in, self.schema.to_texts(row))):
            return "contaminated", split, 0
        return None, split, times

    def times(self, row: Row) -> int:
        """How often a row is used: the whole part of its weight, and once more for the fitting share of the rows."""
        weight = self.exercise_weights.get(row.get("exercise") or "", 1.0)
        weight *= self.language_weights.get(row.get("language") or "", 1.0)
        if weight == 1:
            return 1
        share = int.from_bytes(article_key(self.schema.identity(row), 1), "big")
        return int(weight) + (share / 2**64 < weight % 1)

    def reason_by_length(self, tokens: int) -> str | None:
        """Why a row of so many tokens is dropped."""
        if self.min_row_tokens is not None and tokens < self.min_row_tokens:
            return "too short"
        if self.max_row_tokens is not None and tokens > self.max_row_tokens:
            return "too long"
        return None
