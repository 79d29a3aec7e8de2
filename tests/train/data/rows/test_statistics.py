import json
import re
from collections import Counter
from dataclasses import fields

import pytest

from train.data.rows.statistics import DatasetStatistics


def make_statistics(factor=1):
    """Counts that are all different and add up; `factor` multiplies each."""
    values = {
        "rows_read": 1100,
        "characters_read": 91_000_000,
        "dropped_rows": {"no answer": 70, "other language": 30},
        "dropped_characters": {"no answer": 600_000, "other language": 2_400_000},
        "repaired_rows": {"CR line ends": 12, "NUL characters": 13},
        "repeated_rows": 250,
        "kept_rows": {"train": 750, "validation": 250},
        "kept_characters": {"train": 80_000_000, "validation": 8_000_000},
        "tokens": {"train": 15_000, "validation": 4_100},
        "rows_read_by_exercise": {"mcq": 1053, "(none)": 47},
        "rows_read_by_language": {"en": 801, "fr": 299},
        "rows_by_exercise": {"mcq": 967, "(none)": 33},
        "rows_by_language": {"en": 774, "fr": 226},
        "tokens_by_exercise": {"mcq": 19_020, "(none)": 80},
        "tokens_by_language": {"en": 17_171, "fr": 1_929},
        "articles": {"train": 808, "validation": 204},
        "shared_articles": 17,
        "sequences": {"train": 31, "validation": 9},
        "left_over_tokens": {"train": 211, "validation": 44},
        "cut_documents": {"train": 125, "validation": 10},
        "padding_tokens": {"train": 5_000, "validation": 900},
    }
    multiplied = {
        name: {key: factor * count for key, count in value.items()} if isinstance(value, dict) else factor * value
        for name, value in values.items()
    }
    shards = [f"part {number}.parquet: torn" for number in range(factor)]
    return DatasetStatistics.from_dict(
        {**multiplied, "skipped_shards": shards, "sha256": {"train": "ab", "validation": "cd"}}
    )


def test_the_example_fills_every_field():
    assert all(getattr(make_statistics(), one.name) for one in fields(DatasetStatistics))


def test_json_gives_the_same_statistics_back():
    for statistics in (make_statistics(), DatasetStatistics()):
        copy = DatasetStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
        assert copy == statistics
        assert [type(value) for value in vars(copy).values()] == [type(value) for value in vars(statistics).values()]
        assert copy.dropped_rows["never seen"] == 0  # counters, not dictionaries


def test_adding_adds_every_count():
    statistics = make_statistics()
    statistics.add(make_statistics(2))
    expected = make_statistics(3)
    expected.shared_articles = make_statistics().shared_articles  # chunks may share the same ones: no sum
    expected.skipped_shards = ["part 0.parquet: torn", "part 0.parquet: torn", "part 1.parquet: torn"]
    assert statistics == expected


def test_adding_takes_names_that_are_new_and_leaves_the_other_statistics_alone():
    statistics, other = DatasetStatistics(dropped_rows=Counter({"too long": 2})), make_statistics()
    statistics.add(other)
    statistics.add(
        DatasetStatistics(dropped_rows=Counter({"no answer": 5}), skipped_shards=["z"], sha256={"train": "ef"})
    )
    assert statistics.dropped_rows == {"too long": 2, "no answer": 75, "other language": 30}
    assert statistics.skipped_shards == ["part 0.parquet: torn", "z"]
    assert statistics.sha256 == {}
    assert other == make_statistics()


def cells_of(text, label):
    """The numbers of the one line of a rendered statistics that begins with a label."""
    (line,) = (line for line in text.splitlines() if re.match(rf" *{re.escape(label)}(  |$)", line))
    return line.replace(label, "", 1).split()


@pytest.mark.parametrize(
    ("label", "cells"),
    [
        ("read", ["1,100", "91.0"]),
        ("dropped: no answer", ["70", "0.6"]),
        ("dropped: other language", ["30", "2.4"]),
        ("kept", ["1,000", "19,100", "88.0"]),
        ("train", ["750", "15,000", "80.0"]),
        ("validation", ["250", "4,100", "8.0"]),
        ("repaired: CR line ends", ["12"]),
        ("repaired: NUL characters", ["13"]),
        ("used again, by weight", ["250"]),
        ("skipped: part 0.parquet: torn", []),
        ("mcq", ["1,053", "967", "19,020"]),
        ("(none)", ["47", "33", "80"]),
        ("en", ["801", "774", "17,171"]),
        ("fr", ["299", "226", "1,929"]),
    ],
)
def test_the_tables_show_the_counts(label, cells):
    tables = make_statistics().render().rpartition("\n\n")[0].rpartition("\n\n")[0]
    assert cells_of(tables, label) == cells


def test_shares_of_cut_documents_and_padding_are_shown():
    *_, sequences, shared = make_statistics().render().split("\n\n")
    # 125 of 750 + 250 repeated ones; 5,000 of 20,000. Validation rows are not repeated: 10 of 250; 900 of 5,000.
    assert cells_of(sequences, "train") == ["31", "12.5%", "25.00%", "211"]
    assert cells_of(sequences, "validation") == ["9", "4.0%", "18.00%", "44"]
    assert shared == "articles (seeds and links) that training and validation share: 17"


def test_reasons_stand_in_order_of_their_rows():
    text = make_statistics().render()
    assert text.index("dropped: no answer") < text.index("dropped: other language")
    assert text.index("repaired: NUL characters") < text.index("repaired: CR line ends")
    assert text.index("\n  en ") < text.index("\n  fr ")


def test_a_part_without_tokens_has_no_sequences_to_show():
    text = DatasetStatistics().render()
    assert cells_of(text, "read") == ["0", "0.0"]
    assert "used again" not in text
    assert "validation  " not in text.split("\n\n")[-2]
    *_, sequences, _ = DatasetStatistics(tokens=Counter(train=5)).render().split("\n\n")
    assert cells_of(sequences, "train") == ["0", "0.0%", "0.00%", "0"]
