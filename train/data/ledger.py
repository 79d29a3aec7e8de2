"""What happened to every row that was read: the counts that are shown, and saved beside the blocks and the run."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Counts of rows and tokens.

    Args:
        rows_read: rows taken from the source.
        dropped_rows: rows not used, by reason.
        kept_rows: rows by split ("train", "validation").
        tokens: tokens by split, end-of-text tokens included.
        blocks: full blocks by split.
        left_over_tokens: tokens by split that did not fill a last block, and are not used.
        rows_by_exercise, rows_by_language: kept rows of both splits.
        sha256: of the blocks' tokens, by split; names what a run is trained on.
    """

    rows_read: int = 0
    dropped_rows: Counter = field(default_factory=Counter)
    kept_rows: Counter = field(default_factory=Counter)
    tokens: Counter = field(default_factory=Counter)
    blocks: Counter = field(default_factory=Counter)
    left_over_tokens: Counter = field(default_factory=Counter)
    rows_by_exercise: Counter = field(default_factory=Counter)
    rows_by_language: Counter = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Plain dictionaries, for JSON."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "Ledger":
        ledger = cls()
        for name, value in values.items():
            setattr(ledger, name, Counter(value) if isinstance(getattr(ledger, name), Counter) else value)
        return ledger

    def render(self) -> str:
        """The counts as lines of text, largest first."""
        kept = sum(self.kept_rows.values())
        lines = [f"rows read {self.rows_read:,}, kept {kept:,}, dropped {self.rows_read - kept:,}"]
        lines += [f"  dropped: {reason} {count:,}" for reason, count in self.dropped_rows.most_common()]
        for split in ("train", "validation"):
            lines.append(
                f"  {split}: {self.kept_rows[split]:,} rows, {self.tokens[split]:,} tokens, "
                f"{self.blocks[split]:,} blocks ({self.left_over_tokens[split]:,} tokens left over)"
            )
        for title, counts in (("exercises", self.rows_by_exercise), ("languages", self.rows_by_language)):
            lines.append(f"  {title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common()))
        return "\n".join(lines)
