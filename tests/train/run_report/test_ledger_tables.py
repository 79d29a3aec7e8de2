import json

from train.data.rows.statistics import Ledger
from train.run_report.ledger_tables import ledger_sections
from train.run_report.run_files import read_run


def cells(section):
    return [row for table in section.tables for row in table.rows]


def test_all_counts_of_a_real_ledger_are_shown(finished_run):
    ledger = json.loads((finished_run / "results.json").read_text())["data"]
    (section,) = ledger_sections(read_run(finished_run))
    found = cells(section)
    assert ["read", "100", "", f"{ledger['characters_read']:,}"] in found
    assert ["dropped: no answer", "10", "", f"{ledger['dropped_characters']['no answer']:,}"] in found
    kept, tokens, characters = (ledger[name]["train"] for name in ("kept_rows", "tokens", "kept_characters"))
    assert ["kept: training", f"{kept:,}", f"{tokens:,}", f"{characters:,}"] in found
    for kind in ("exercise", "language"):
        for name, count in ledger[f"rows_read_by_{kind}"].items():
            share = ledger[f"tokens_by_{kind}"][name] / sum(ledger[f"tokens_by_{kind}"].values())
            numbers = (count, ledger[f"rows_by_{kind}"][name], ledger[f"tokens_by_{kind}"][name])
            assert [name, *(f"{number:,}" for number in numbers), f"{share:.1%}"] in found
    assert ("shared articles", "0 of both parts") in section.facts
    assert ("dataset", "rows.jsonl") in section.facts
    assert ("SHA-256 train", ledger["sha256"]["train"]) in section.facts


def test_a_stream_has_its_held_out_rows_first_and_its_own_at_the_end(run_files):
    ledger = Ledger(rows_read=5).to_dict()
    early = ledger_sections(run_files(record={"held_out_data": ledger}))
    assert [section.title for section in early] == ["Rows held out from the stream"]
    late = ledger_sections(run_files(record={"held_out_data": ledger}, results={"data": ledger}))
    assert [section.title for section in late] == ["Rows", "Rows held out from the stream"]
    assert ("shared articles", "not counted, as one part was read") in late[0].facts


def test_repairs_repetitions_and_skipped_files_are_shown(run_files):
    ledger = Ledger(repeated_rows=7, skipped_shards=["/somewhere/rows-3.parquet: torn"])
    ledger.repaired_rows["NUL characters"] = 2
    (section,) = ledger_sections(run_files(results={"data": ledger.to_dict()}))
    titles = [row[0] for row in cells(section)]
    assert titles[1:] == ["of these repaired: NUL characters", "used again, by weight", "skipped: rows-3.parquet: torn"]


def test_without_a_ledger_there_is_nothing(run_files):
    assert ledger_sections(run_files()) == []
