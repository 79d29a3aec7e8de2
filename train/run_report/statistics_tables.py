"""The data statistics as tables: what became of the rows that were read."""

from dataclasses import dataclass
from pathlib import Path

from train.evaluation.result_rows import Table
from train.run_report.run_record import RunFiles
from train.run_report.tables import show, show_share


SPLITS = {"train": "training", "validation": "held out"}


@dataclass(frozen=True)
class StatisticsSection:
    """One statistics: its tables, and facts as names with values."""

    title: str
    tables: list[Table]
    facts: list[tuple[str, str]]


def statistics_sections(run: RunFiles) -> list[StatisticsSection]:
    """The statistics of the rows that are trained on, and that of a stream's held-out ones, which is apart."""
    known = {**run.record, **run.results}
    titles = {"data": "Rows", "validation_data": "Rows held out from the stream"}
    return [_section(title, known[key]) for key, title in titles.items() if known.get(key)]


def _section(title: str, statistics: dict) -> StatisticsSection:
    tables = [_rows_table(statistics)]
    tables += [_kind_table(statistics, kind) for kind in ("exercise", "language") if statistics.get(f"rows_by_{kind}")]
    return StatisticsSection(title, [*tables, _sequences_table(statistics)], _facts(statistics))


def _rows_table(statistics: dict) -> Table:
    rows = [["read", show(statistics.get("rows_read")), "", show(statistics.get("characters_read"))]]
    for reason, count in _largest_first(statistics.get("dropped_rows", {})):
        characters = statistics.get("dropped_characters", {}).get(reason)
        rows.append([f"dropped: {reason}", f"{count:,}", "", show(characters)])
    for split, count in statistics.get("kept_rows", {}).items():
        tokens, characters = (statistics.get(name, {}).get(split) for name in ("tokens", "kept_characters"))
        rows.append([f"kept: {SPLITS.get(split, split)}", f"{count:,}", show(tokens), show(characters)])
    rows += [
        [f"of these repaired: {found}", f"{n:,}", "", ""]
        for found, n in _largest_first(statistics.get("repaired_rows", {}))
    ]
    if statistics.get("repeated_rows"):
        rows.append(["used again, by weight", f"{statistics['repeated_rows']:,}", "", ""])
    rows += [[f"skipped: {Path(shard).name}", "", "", ""] for shard in statistics.get("skipped_shards", [])]
    return Table(["what became of them", "rows", "tokens", "characters"], rows)


def _kind_table(statistics: dict, kind: str) -> Table:
    kept, read, tokens = (statistics.get(f"{name}_by_{kind}", {}) for name in ("rows", "rows_read", "tokens"))
    all_tokens = sum(tokens.values())
    rows = [
        [
            name,
            show(count),
            show(kept.get(name, 0)),
            show(tokens.get(name, 0)),
            show_share(tokens.get(name, 0) / all_tokens if all_tokens else None),
        ]
        for name, count in _largest_first({**kept, **read})
    ]
    return Table([kind, "rows read", "kept", "tokens", "of all tokens"], rows, bars=[4])


def _sequences_table(statistics: dict) -> Table:
    rows = []
    statistics = {"sequences": statistics.get("blocks", {}), **statistics}  # the name in older runs
    for split, name in SPLITS.items():
        if statistics.get("tokens", {}).get(split):  # a stream has one part only
            names = ("sequences", "cut_documents", "padding_tokens", "left_over_tokens", "articles")
            rows.append([name, *(show(statistics.get(key, {}).get(split, 0)) for key in names)])
    return Table(["sequences", "sequences", "documents cut", "padding tokens", "tokens left over", "articles"], rows)


def _facts(statistics: dict) -> list[tuple[str, str]]:
    shared = statistics.get("shared_articles")
    dataset = str(statistics.get("dataset") or "")
    return [
        # Of a local file the last part only: the rest of its path is nobody's business.
        ("dataset", show(dataset if statistics.get("dataset_revision") else Path(dataset).name)),
        ("its commit", show(statistics.get("dataset_revision"))),
        ("shared articles", "not counted, as one part was read" if shared is None else f"{shared:,} of both parts"),
        *((f"SHA-256 {split}", digest) for split, digest in statistics.get("sha256", {}).items()),
    ]


def _largest_first(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])
