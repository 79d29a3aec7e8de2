"""What a post-training run trains and evaluates on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from train.data.files.sources import Source
from train.data.rows.statistics import SPLITS, DatasetStatistics
from train.data.rows.synth import Row


@dataclass
class RowStatistics(DatasetStatistics):
    """A `DatasetStatistics` of rows that are not run together in blocks.

    Args:
        answer_tokens: by split, those that the loss is on.
    """

    answer_tokens: Counter = field(default_factory=Counter)

    def drop(self, reason: str) -> None:
        self.dropped_rows[reason] += 1

    def keep(self, row: Row, split: str, tokens: int = 0) -> None:
        """Count a row that is used, by exercise and language where it has such."""
        self.kept_rows[split] += 1
        self.tokens[split] += tokens
        for kind, rows_of, tokens_of in (
            ("exercise", self.rows_by_exercise, self.tokens_by_exercise),
            ("language", self.rows_by_language, self.tokens_by_language),
        ):
            if row.get(kind) is not None:
                rows_of[row[kind]] += 1
                tokens_of[row[kind]] += tokens

    def drop_after_all(self, row: Row, split: str, reason: str) -> None:
        """Count as dropped a row that was counted as kept, when its tokens were not known."""
        self.kept_rows[split] -= 1
        for kind, rows_of in (("exercise", self.rows_by_exercise), ("language", self.rows_by_language)):
            if row.get(kind) is not None:
                rows_of[row[kind]] -= 1
        self.drop(reason)

    def render(self) -> str:
        lines = [f"{'rows read':<52}{self.rows_read:>10,}"]
        lines += [f"  {f'dropped: {reason}':<50}{count:>10,}" for reason, count in self.dropped_rows.most_common()]
        lines += [f"  {f'changed: {found}':<50}{count:>10,}" for found, count in self.repaired_rows.most_common()]
        for split in SPLITS:
            line = f"  {f'kept: {split}':<50}{self.kept_rows[split]:>10,}"
            if self.tokens[split]:
                line += f" rows {self.tokens[split]:>12,} tokens {self.answer_tokens[split]:>12,} of the answers"
            lines.append(line)
        return "\n".join(lines)


@dataclass(frozen=True)
class PostTrainingData:
    """Args:
    train, validation: under sft, `datasets.Dataset`s of `input_ids` and `labels` (-100 where no loss is wanted). Under
        dpo and grpo, lists of rows as the source has them (SYNTH's columns, or `prompt`, `chosen`, `rejected`), which
        their builders judge and convert; they count in the statistics what they drop and keep.
    name: the SHA-256 of the training rows; a run goes on only with the same.
    is_known: for each question of an exam, whether training rows came from its seed article; `None` where rows have no
        such articles.
    """

    train: Any
    validation: Any
    name: str
    statistics: RowStatistics
    source: Source
    is_known: Callable[[list[Row]], list[bool] | None]
