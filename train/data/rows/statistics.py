"""What happened to every row that was read: the counts that are shown, and saved beside the sequences and the run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import get_args

from train.data.rows.synth import Split


SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass
class DatasetStatistics:
    """Counts of rows and tokens.

    A row is read, and then dropped for one reason or kept. The tokens of dropped rows are not known, as most are not
    tokenised; their characters are.

    Args:
        rows_read, characters_read: taken from the source, unreadable rows (which have no characters) included.
        dropped_rows, dropped_characters: of rows that are not used, by reason.
        repaired_rows: kept rows whose text was changed, by what was found.
        repeated_rows: further uses of training rows whose weight is above 1.
        kept_rows, kept_characters: by split ("train", "validation").
        tokens: by split, end-of-text tokens and repeated rows included.
        rows_read_by_exercise, rows_read_by_language: all that can be read.
        rows_by_exercise, rows_by_language: kept rows of both splits; and their tokens.
        articles: seed articles and linked ones, by split, each row's counted.
        shared_articles: those that rows of both splits touch; `None` where only one part was read.
        skipped_shards: files that could not be read, as the run's settings allow.
        sequences: full sequences, by split.
        left_over_tokens: by split, those that did not fill a last sequence, and are not used.
        cut_documents: by split, those that run over a sequence's end.
        padding_tokens: by split, those that fill sequences up.
        sha256: of the sequences' tokens, by split; names what a run is trained on.
    """

    rows_read: int = 0
    characters_read: int = 0
    dropped_rows: Counter = field(default_factory=Counter)
    dropped_characters: Counter = field(default_factory=Counter)
    repaired_rows: Counter = field(default_factory=Counter)
    repeated_rows: int = 0
    kept_rows: Counter = field(default_factory=Counter)
    kept_characters: Counter = field(default_factory=Counter)
    tokens: Counter = field(default_factory=Counter)
    rows_read_by_exercise: Counter = field(default_factory=Counter)
    rows_read_by_language: Counter = field(default_factory=Counter)
    rows_by_exercise: Counter = field(default_factory=Counter)
    rows_by_language: Counter = field(default_factory=Counter)
    tokens_by_exercise: Counter = field(default_factory=Counter)
    tokens_by_language: Counter = field(default_factory=Counter)
    articles: Counter = field(default_factory=Counter)
    shared_articles: int | None = None
    skipped_shards: list[str] = field(default_factory=list)
    sequences: Counter = field(default_factory=Counter)
    left_over_tokens: Counter = field(default_factory=Counter)
    cut_documents: Counter = field(default_factory=Counter)
    padding_tokens: Counter = field(default_factory=Counter)
    sha256: dict[str, str] = field(default_factory=dict)

    def add(self, other: "DatasetStatistics") -> None:
        """Add another's counts to these; hashes and shared articles are no sums, and stay."""
        for one in fields(self):
            mine, others = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                mine.update(others)
            elif one.name not in ("sha256", "shared_articles"):
                setattr(self, one.name, mine + others)

    def to_dict(self) -> dict:
        """Plain dictionaries, for JSON."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> "DatasetStatistics":
        statistics = cls()
        for name, value in values.items():
            name = {"blocks": "sequences"}.get(name, name)  # as runs of earlier versions have it
            setattr(statistics, name, Counter(value) if isinstance(getattr(statistics, name), Counter) else value)
        return statistics

    def render(self) -> str:
        """The counts as tables in text, largest first."""
        kept = sum(self.kept_rows.values())
        lines = [_line("", "rows", "tokens", "M characters")]
        lines.append(_line("read", self.rows_read, None, self.characters_read))
        lines += [
            _line(f"  dropped: {reason}", rows, None, self.dropped_characters[reason])
            for reason, rows in self.dropped_rows.most_common()
        ]
        lines.append(_line("kept", kept, sum(self.tokens.values()), sum(self.kept_characters.values())))
        lines += [
            _line(f"  {split}", self.kept_rows[split], self.tokens[split], self.kept_characters[split])
            for split in SPLITS
        ]
        lines += [_line(f"  repaired: {found}", rows) for found, rows in self.repaired_rows.most_common()]
        if self.repeated_rows:
            lines.append(_line("  used again, by weight", self.repeated_rows))
        lines += [_line(f"skipped: {shard}") for shard in self.skipped_shards]
        for title, read, rows, tokens in (
            ("exercise", self.rows_read_by_exercise, self.rows_by_exercise, self.tokens_by_exercise),
            ("language", self.rows_read_by_language, self.rows_by_language, self.tokens_by_language),
        ):
            lines += ["", f"{title:<44} {'rows read':>13} {'kept':>13} {'tokens':>15}"]
            lines += [
                f"  {name!s:<42} {count:>13,} {rows[name]:>13,} {tokens[name]:>15,}"
                for name, count in read.most_common()
            ]
        return "\n".join([*lines, "", *self._describe_sequences(), self._describe_articles()])

    def _describe_sequences(self) -> Iterable[str]:
        for split in SPLITS:
            tokens, padding = self.tokens[split], self.padding_tokens[split]
            if not tokens:  # of a stream, which has one part only
                continue
            yield (
                f"{split}: {self.sequences[split]:,} sequences; "
                f"{self.cut_documents[split] / max(self.documents(split), 1):.1%} of the documents are cut, "
                f"{padding / max(tokens + padding, 1):.2%} of the tokens are padding, "
                f"{self.left_over_tokens[split]:,} are left over"
            )

    def documents(self, split: str) -> int:
        """Rows as they stand in the sequences, repeated ones included."""
        return self.kept_rows[split] + (self.repeated_rows if split == "train" else 0)

    def _describe_articles(self) -> str:
        shared = "not counted, as one part was read" if self.shared_articles is None else f"{self.shared_articles:,}"
        return f"articles (seeds and links) that training and validation share: {shared}"


def _line(label: str, rows: object = None, tokens: object = None, characters: object = None) -> str:
    cells = [
        f"{cell:,}" if isinstance(cell, int) else str(cell or "")
        for cell in (rows, tokens, f"{characters / 1e6:,.1f}" if isinstance(characters, int) else characters)
    ]
    return f"{label:<44} {cells[0]:>13} {cells[1]:>15} {cells[2]:>13}".rstrip()
