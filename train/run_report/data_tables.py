"""The statistics of the rows as tables."""

from collections import Counter
from pathlib import Path

from train.evaluation.result_rows import NOT_RECORDED, Table
from train.run_report.run_record import name_to_show
from train.run_report.tables import show


SPLITS = {"train": "training", "validation": "validation"}


def data_tables(results: dict) -> list[Table]:
    """Of the rows that are trained on, and of a stream's validation rows, which have statistics of their own."""
    tables = []
    for key, title in {"data": "Rows", "validation_data": "Validation rows of the stream"}.items():
        if not (statistics := results.get(key)):
            continue
        parts = statistics.get("datasets") or [statistics]
        if len(parts) > 1:
            tables.append(_mixture_table(parts, f"{title}: the mixture", statistics.get("validation_set")))
        for statistics in parts:
            name = f" of {_name(statistics)}" if len(parts) > 1 else ""
            kinds = [kind for kind in ("exercise", "language") if statistics.get(f"rows_by_{kind}")]
            tables += [_rows_table(statistics, f"{title}{name}"), *(_kind_table(statistics, kind) for kind in kinds)]
            tables += [_sequences_table(statistics)] if statistics.get("sequences", statistics.get("blocks")) else []
            tables.append(_source_table(statistics))
    return tables


def _mixture_table(parts: list[dict], title: str, apart: dict | None) -> Table:
    rows = [
        [
            _name(part),
            f"{part['share']:.2%}",
            show(part.get("passes_in_epoch") and f"{part['passes_in_epoch']:.3g}"),
            *(show(part.get(name, {}).get("train")) for name in ("sequences", "tokens")),
            show(part.get("validation_sequences")),
        ]
        for part in parts
    ]
    header = ["dataset", "share", "passes in an epoch", "training sequences", "their tokens", "validation sequences"]
    return Table(header, rows, title, bars=[1], notes=[f"Validation rows: {_name(apart)}."] if apart else [])


def _rows_table(statistics: dict, title: str) -> Table:
    rows = [["read", show(statistics.get("rows_read")), "", show(statistics.get("characters_read"))]]
    for reason, count in Counter(statistics.get("dropped_rows", {})).most_common():
        characters = statistics.get("dropped_characters", {}).get(reason)
        rows.append([f"dropped: {reason}", show(count), "", show(characters)])
    for split, count in statistics.get("kept_rows", {}).items():
        tokens, characters = (statistics.get(name, {}).get(split) for name in ("tokens", "kept_characters"))
        rows.append([f"kept: {SPLITS.get(split, split)}", show(count), show(tokens), show(characters)])
    for found, count in Counter(statistics.get("repaired_rows", {})).most_common():
        rows.append([f"of these repaired: {found}", show(count), "", ""])
    if statistics.get("repeated_rows"):
        rows.append(["used again, by weight", show(statistics["repeated_rows"]), "", ""])
    rows += [[f"skipped: {Path(shard).name}", "", "", ""] for shard in statistics.get("skipped_shards", [])]
    return Table(["", "rows", "tokens", "characters"], rows, title)


def _kind_table(statistics: dict, kind: str) -> Table:
    kept, read, tokens = (statistics.get(f"{name}_by_{kind}", {}) for name in ("rows", "rows_read", "tokens"))
    all_tokens = sum(tokens.values())
    rows = [
        [
            name,
            *(show(count) for count in (rows_read, kept.get(name, 0), tokens.get(name, 0))),
            f"{tokens.get(name, 0) / all_tokens:.1%}" if all_tokens else NOT_RECORDED,
        ]
        for name, rows_read in Counter({**kept, **read}).most_common()
    ]
    return Table([kind, "rows read", "kept", "tokens", "of all tokens"], rows, bars=[4])


def _sequences_table(statistics: dict) -> Table:
    statistics = {"sequences": statistics.get("blocks", {}), **statistics}  # "blocks" in older run folders
    names = ("sequences", "cut_documents", "padding_tokens", "left_over_tokens", "articles")
    rows = [
        [name, *(show(statistics.get(key, {}).get(split, 0)) for key in names)]
        for split, name in SPLITS.items()
        if statistics.get("tokens", {}).get(split)  # a stream has one part only
    ]
    return Table(["", "sequences", "documents cut", "padding tokens", "tokens left over", "articles"], rows)


def _place_rows(title: str, source: dict) -> list[list[str]]:
    return [[title, show(_name(source))], ["its commit", show(source.get("dataset_revision"))]]


def _source_table(statistics: dict) -> Table:
    shared = statistics.get("shared_articles")
    apart = statistics.get("validation_set")
    rows = [
        *_place_rows("dataset", statistics),
        *(_place_rows("validation rows of", apart) if isinstance(apart, dict) else []),
        ["shared articles", "not counted, as one part was read" if shared is None else f"{shared:,} of both parts"],
        *([f"SHA-256 {split}", digest] for split, digest in statistics.get("sha256", {}).items()),
    ]
    return Table(["source", ""], rows)


def _name(statistics: dict) -> str:
    name, config = name_to_show(statistics) or "", statistics.get("dataset_config")
    return f"{name} ({config})" if config else name
