import json

from train.data.rows.statistics import DatasetStatistics
from train.run_report.tables import data_tables


def cells(results):
    return [row for table in data_tables(results) for row in table.rows]


def test_all_counts_of_a_real_statistics_are_shown(finished_run):
    results = json.loads((finished_run / "results.json").read_text())
    statistics, found = results["data"], cells(results)
    assert ["read", "100", "", f"{statistics['characters_read']:,}"] in found
    assert ["dropped: no answer", "10", "", f"{statistics['dropped_characters']['no answer']:,}"] in found
    kept, tokens, characters = (statistics[name]["train"] for name in ("kept_rows", "tokens", "kept_characters"))
    assert ["kept: training", f"{kept:,}", f"{tokens:,}", f"{characters:,}"] in found
    for kind in ("exercise", "language"):
        for name, count in statistics[f"rows_read_by_{kind}"].items():
            share = statistics[f"tokens_by_{kind}"][name] / sum(statistics[f"tokens_by_{kind}"].values())
            numbers = (count, statistics[f"rows_by_{kind}"][name], statistics[f"tokens_by_{kind}"][name])
            assert [name, *(f"{number:,}" for number in numbers), f"{share:.1%}"] in found
    assert ["shared articles", "0 of both parts"] in found
    assert ["dataset", "rows.jsonl"] in found
    assert ["SHA-256 train", statistics["sha256"]["train"]] in found


def test_a_stream_has_its_validation_rows_first_and_its_own_at_the_end():
    statistics = DatasetStatistics(rows_read=5).to_dict()
    early = {"validation_data": statistics}
    assert [table.title for table in data_tables(early) if table.title] == ["Validation rows of the stream"]
    late = {"validation_data": statistics, "data": statistics}
    assert [table.title for table in data_tables(late) if table.title] == ["Rows", "Validation rows of the stream"]
    assert ["shared articles", "not counted, as one part was read"] in cells(late)


def test_a_validation_set_named_apart_is_shown_without_its_path():
    apart = {"dataset": "/data/mine/held.jsonl", "dataset_revision": None}
    assert ["validation rows of", "held.jsonl"] in cells(
        {"data": {**DatasetStatistics().to_dict(), "validation_set": apart}}
    )


def test_repairs_repetitions_and_skipped_files_are_shown():
    statistics = DatasetStatistics(repeated_rows=7, skipped_shards=["/somewhere/rows-3.parquet: torn"])
    statistics.repaired_rows["NUL characters"] = 2
    titles = [row[0] for row in cells({"data": statistics.to_dict()})]
    assert titles[1:4] == [
        "of these repaired: NUL characters",
        "used again, by weight",
        "skipped: rows-3.parquet: torn",
    ]


def test_without_statistics_there_is_nothing():
    assert data_tables({}) == []
