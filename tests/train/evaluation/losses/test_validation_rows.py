import json
from dataclasses import replace

import pytest

from train.data.from_settings import to_preparations
from train.data.rows.synth import split_of
from train.data.sequences.prepare import prepare_data, touch_articles
from train.evaluation.losses.document_scores import Document
from train.evaluation.losses.loss_figures import name_groups
from train.evaluation.losses.validation_rows import draw_rows, read_given, read_validation
from train.settings.arguments import DataArguments


@pytest.fixture
def data(rows_file, tmp_path) -> DataArguments:
    """Settings that hold out a third of two hundred rows."""
    return DataArguments(
        dataset=[str(rows_file)],
        validation_fraction=0.3,
        split_seed=3,
        sequence_length=32,
        data_cache_dir=str(tmp_path / "cache"),
    )


def test_they_are_those_that_training_leaves_out(data, tokenizer):
    validation = read_validation(data, tokenizer, max_rows=1000)
    prepared = prepare_data(to_preparations(data, tokenizer)[0])
    assert len(validation.rows) == len(validation.found) == prepared.statistics.kept_rows["validation"]
    assert validation.all_read
    assert all(split_of(row, 0.3, 3) == "validation" for row in validation.rows)
    assert not any(touch_articles(prepared.article_files, validation.rows))
    assert "30.0%" in validation.description
    assert "/" not in validation.description


def test_choices_of_the_recipe_count(data, tokenizer, row, rows_file):
    mixed = [row(number, language="fr" if number % 2 else "en") for number in range(100)]
    mixed.append(row(1000, language="en", synthetic_reasoning="Very long. " * 100))
    rows_file.write_text("".join(json.dumps(one) + "\n" for one in mixed))
    everything = replace(data, validation_fraction=0.99)
    english = read_validation(replace(everything, languages=["en"]), tokenizer, 1000).rows
    assert {row["language"] for row in english} == {"en"}
    short = read_validation(replace(everything, languages=["en"], max_row_tokens=100), tokenizer, 1000).rows
    assert 0 < len(short) == len([row for row in english if len(row["synthetic_reasoning"]) < 100])
    # evaluation sets are for training rows, and need not be at hand
    assert read_validation(replace(everything, decontaminate=["no_such_task"]), tokenizer, 1000).found


def test_fewer_are_drawn_from_all_over_and_the_same_ones_each_time(data, tokenizer):
    everything = read_validation(data, tokenizer, 1000).rows
    drawn = read_validation(data, tokenizer, 15)
    assert len(drawn.rows) == 15
    assert drawn.rows == read_validation(data, tokenizer, 15).rows
    places = [everything.index(row) for row in drawn.rows]
    assert places == sorted(places)
    assert max(places) > len(everything) / 2
    assert not read_validation(data, tokenizer, 5).all_read


def test_all_usable_rows_of_another_file(rows_file, row, tmp_path):
    file = tmp_path / "mixed.jsonl"
    file.write_text(json.dumps(row(0)) + "\n" + json.dumps(row(1, query=" ")) + "\n")
    given = read_given(str(file), 10)
    assert [row["query"] for row in given.rows] == ["What follows 0?"]
    assert given.description == "rows of mixed.jsonl"


def test_rows_that_cannot_be_had_are_refused_with_the_way_out(data, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"none is a validation row.*--rows"):
        read_validation(replace(data, validation_fraction=1e-9), tokenizer, 10)
    with pytest.raises(ValueError, match=r"gone\.parquet.*--rows"):
        read_validation(replace(data, dataset=["gone.parquet"]), tokenizer, 10)
    with pytest.raises(ValueError, match=r"--rows gone\.parquet"):
        read_given("gone.parquet", 10)
    chat = tmp_path / "chat.jsonl"
    chat.write_text('{"messages": []}\n')
    with pytest.raises(ValueError, match=r"none is a validation row.*--rows"):
        read_validation(replace(data, dataset=[str(chat)]), tokenizer, 10)


def test_drawing_depends_on_the_rows_alone(row):
    rows = [row(number) for number in range(50)]
    drawn = draw_rows(rows, 10)
    assert draw_rows(rows[::-1], 10) == drawn[::-1]
    assert draw_rows(rows, 100) == rows


def test_of_several_datasets_all_have_their_share(data, tokenizer, tmp_path, rows_file):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"Line {number} of a book.\n\n" for number in range(300)))
    both = replace(data, dataset=[str(rows_file), str(book)], dataset_weights=[0.75, 0.25], document_separator="\n\n")
    validation = read_validation(both, tokenizer, max_rows=20)
    assert [schema.name for schema in validation.schemas] == ["synth"] * 15 + ["text"] * 5
    assert name_groups(validation.rows)["dataset"] == ["rows.jsonl"] * 15 + ["book.txt"] * 5
    assert {row["query_seed_url"][:13] for row in validation.questions} == {"test://number"}
    assert "rows.jsonl (30.0% of its seed articles); validation rows of book.txt (30.0% of its texts)" in (
        validation.description
    )
    documents = [Document.of(*one, tokenizer) for one in zip(validation.rows, validation.schemas, strict=True)]
    assert all(document.text_bytes for document in documents)
    assert "dataset" not in name_groups(read_validation(data, tokenizer, 20).rows)
