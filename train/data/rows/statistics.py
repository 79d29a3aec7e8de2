"""Counts every row that was read, kept or dropped; shown, and saved beside the sequences and the run."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import get_args

from tabulate import tabulate

from train.data.rows.synth import Row, Split


SPLITS: tuple[Split, ...] = get_args(Split)
KINDS = ("exercise", "language")
NOT_NAMED = "(none)"  # the exercise or language of rows that have none


@dataclass
class DatasetStatistics:
    """Counts of rows and tokens.

    A row is read, and then dropped for one reason or kept. The tokens of dropped rows are not known, as most are not
    tokenised; their characters are. From `articles` on, counters are by split, too.
    """

    rows_read: int = 0  # unreadable ones, which have no characters, included
    characters_read: int = 0
    dropped_rows: Counter = field(default_factory=Counter)  # by reason
    dropped_characters: Counter = field(default_factory=Counter)
    repaired_rows: Counter = field(default_factory=Counter)  # kept rows whose text was changed, by what was found
    repeated_rows: int = 0  # further uses of training rows whose weight is above 1
    kept_rows: Counter = field(default_factory=Counter)  # by split ("train", "validation")
    kept_characters: Counter = field(default_factory=Counter)  # by split
    tokens: Counter = field(default_factory=Counter)  # by split, end-of-text tokens and repeated rows included
    rows_read_by_exercise: Counter = field(default_factory=Counter)  # all that can be read
    rows_read_by_language: Counter = field(default_factory=Counter)
    rows_by_exercise: Counter = field(default_factory=Counter)  # kept rows of both splits; and their tokens
    rows_by_language: Counter = field(default_factory=Counter)
    tokens_by_exercise: Counter = field(default_factory=Counter)
    tokens_by_language: Counter = field(default_factory=Counter)
    articles: Counter = field(default_factory=Counter)  # seed articles and linked ones, each row's counted
    shared_articles: int | None = None  # those that rows of both splits touch; `None` where only one part was read
    skipped_shards: list[str] = field(default_factory=list)  # what could not be read, as the run's settings allow
    sequences: Counter = field(default_factory=Counter)  # full ones
    left_over_tokens: Counter = field(default_factory=Counter)  # which did not fill a last sequence, and are not used
    cut_documents: Counter = field(default_factory=Counter)  # which run over a sequence's end
    padding_tokens: Counter = field(default_factory=Counter)  # which fill sequences up
    sha256: dict[str, str] = field(default_factory=dict)  # of the sequences' tokens; names what a run is trained on

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

    def read(self, row: Row) -> None:
        """Count a readable row by exercise and language, where rows have such columns."""
        for kind in KINDS:
            if kind in row:
                getattr(self, f"rows_read_by_{kind}")[str(row[kind] or NOT_NAMED)] += 1

    def drop(self, reason: str, characters: int = 0) -> None:
        """Count a row that is not used."""
        self.dropped_rows[reason] += 1
        self.dropped_characters[reason] += characters

    def keep(
        self, row: Row, split: Split, changes: list[str], tokens: int, times: int = 1, characters: int = 0
    ) -> None:
        """Count a row that is used so many times, by exercise and language where rows have such columns."""
        self.kept_rows[split] += 1
        self.kept_characters[split] += characters
        self.repeated_rows += times - 1
        self.repaired_rows.update(changes)
        self.tokens[split] += times * tokens
        for kind in KINDS:
            if kind in row:
                getattr(self, f"rows_by_{kind}")[row[kind] or NOT_NAMED] += 1
                getattr(self, f"tokens_by_{kind}")[row[kind] or NOT_NAMED] += times * tokens

    def documents(self, split: str) -> int:
        """Rows as they stand in the sequences, repeated ones included."""
        return self.kept_rows[split] + (self.repeated_rows if split == "train" else 0)

    def render(self) -> str:
        """The counts as tables in text, largest first."""
        shared = "not counted, as one part was read" if self.shared_articles is None else f"{self.shared_articles:,}"
        return "\n\n".join(
            [
                _table(("", "rows", "tokens", "M characters"), self._rows_table()),
                *(f"skipped: {shard}" for shard in self.skipped_shards),
                *(_table((kind, "rows read", "kept", "tokens"), self._kind_table(kind)) for kind in KINDS),
                _table(("", "sequences", "documents cut", "padding", "tokens left over"), self._sequences_table()),
                f"articles (seeds and links) that training and validation share: {shared}",
            ]
        )

    def _rows_table(self) -> list[tuple]:
        kept = sum(self.kept_rows.values())
        return [
            ("read", self.rows_read, None, self.characters_read / 1e6),
            *(
                (f"  dropped: {reason}", rows, None, self.dropped_characters[reason] / 1e6)
                for reason, rows in self.dropped_rows.most_common()
            ),
            ("kept", kept, sum(self.tokens.values()), sum(self.kept_characters.values()) / 1e6),
            *(
                (f"  {split}", self.kept_rows[split], self.tokens[split], self.kept_characters[split] / 1e6)
                for split in SPLITS
            ),
            *((f"  repaired: {found}", rows) for found, rows in self.repaired_rows.most_common()),
            *([("  used again, by weight", self.repeated_rows)] if self.repeated_rows else []),
        ]

    def _kind_table(self, kind: str) -> list[tuple]:
        read, kept, tokens = (getattr(self, f"{name}_by_{kind}") for name in ("rows_read", "rows", "tokens"))
        return [(f"  {name}", count, kept[name], tokens[name]) for name, count in read.most_common()]

    def _sequences_table(self) -> list[tuple]:
        return [
            (
                split,
                self.sequences[split],
                f"{self.cut_documents[split] / max(self.documents(split), 1):.1%}",
                f"{self.padding_tokens[split] / (self.tokens[split] + self.padding_tokens[split]):.2%}",
                self.left_over_tokens[split],
            )
            for split in SPLITS
            if self.tokens[split]  # a stream has one part only
        ]


def _table(header: tuple[str, ...], rows: list[tuple]) -> str:
    return tabulate(rows, header, tablefmt="plain", intfmt=",", floatfmt=",.1f", preserve_whitespace=True)
