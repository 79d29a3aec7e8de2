"""The statistics of the rows as tables."""

from collections import Counter
from pathlib import Path

from train.evaluation.result_rows import NOT_RECORDED, Table
from train.run_report.tables import show


SPLITS = {"train": "training", "validation": "validation"}


def data_tables(results: dict) -> list[Table]:
    """Of the rows that are trained on, and of a stream's validation rows, which have statistics of their own."""
    tables = []
    for key, title in {"data": "Rows", "validation_data": "Validation rows of the stream"}.items():
        if statistics := results.get(key):
            kinds = [kind for kind in ("exercise", "language") if statistics.get(f"rows_by_{kind}")]
            tables += [_rows_table(statistics, title), *(_kind_table(statistics, kind) for kind in kinds)]
            tables += [_sequences_table(statistics)] if statistics.get("sequences", statistics.get("blocks")) else []
            tables.append(_source_table(statistics))
    return tables


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
    dataset, commit = str(source.get("dataset") or ""), source.get("dataset_revision")
    # Of a local file the last part only: the rest of its path is nobody's business.
    return [[title, show(dataset if commit else Path(dataset).name)], ["its commit", show(commit)]]


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
