"""Counts of the rows that post-training reads."""

from collections import Counter
from dataclasses import dataclass, field

from tabulate import tabulate

from train.data.rows.statistics import SPLITS, DatasetStatistics


@dataclass
class RowStatistics(DatasetStatistics):
    """A `DatasetStatistics` of rows that are not run together in sequences."""

    answer_tokens: Counter = field(default_factory=Counter)  # by split, those that the loss is on

    def render(self) -> str:
        """The counts as a table in text."""
        lines: list[tuple] = [("read", self.rows_read)]
        lines += [(f"  dropped: {reason}", count) for reason, count in self.dropped_rows.most_common()]
        lines += [(f"  changed: {found}", count) for found, count in self.repaired_rows.most_common()]
        lines += [
            (f"  kept: {split}", self.kept_rows[split], self.tokens[split] or None, self.answer_tokens[split] or None)
            for split in SPLITS
        ]
        header = ("", "rows", "tokens", "of the answers")
        return tabulate(lines, header, tablefmt="plain", intfmt=",", preserve_whitespace=True)
