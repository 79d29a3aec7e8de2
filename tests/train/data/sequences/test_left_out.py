"""Rows that are left out for what other rows hold."""

import json
import os
from itertools import islice

import numpy as np
import pytest

from train.data.__main__ import main
from train.data.files import chunk
from train.data.from_settings import to_preparations
from train.data.rows.synth import row_to_text
from train.data.sequences import duplicates
from train.data.sequences.prepare import prepare_data, touch_articles
from train.data.sequences.streamed_sequences import MixedStreams, StreamedSequences
from train.data.sequences.training_data import load_streamed_data
from train.evaluation.losses.validation_rows import read_validation
from train.settings.arguments import DataArguments


ANSWER = "The river rises in the hills north of the old town and runs to the sea."


@pytest.fixture
def write(tmp_path):
    """Writes a file of rows; returns its path as text."""

    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in rows))
        return str(tmp_path / name)

    return write


@pytest.fixture
def settings(tmp_path, rows_file):
    """Settings of a run on the 200 rows of `rows_file`."""

    def make(**changes):
        common = {"dataset": [str(rows_file)], "sequence_length": 16, "data_cache_dir": str(tmp_path / "cache")}
        return DataArguments(**{**common, **changes})

    return make


@pytest.fixture
def validation_file(write, row):
    """Of 30 rows: ten have the seed articles of the last of the 200, and other texts; two cannot be used."""
    rows = [row(number, synthetic_answer=ANSWER, language="fr") for number in range(190, 220)]
    return write("validation.jsonl", [*rows, row(0, query=None), row(1, query=" ")])


def documents_in(data, split, tokenizer) -> list[str]:
    tokens = np.concatenate([np.fromfile(file, "<u2") for file in getattr(data, split).files])
    return [text for text in tokenizer.decode(tokens).split("<|endoftext|>") if text]


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_validation_set_named_apart_is_all_for_validation_and_no_training_row_touches_it(
    settings, validation_file, row, tokenizer, packing, tmp_path
):
    (tmp_path / "evaluation.txt").write_text(ANSWER)  # which is for training rows
    evaluation = [str(tmp_path / "evaluation.txt")]
    named = settings(validation_dataset=validation_file, packing=packing, sequence_length=64, decontaminate=evaluation)
    data = prepare_data(to_preparations(named, tokenizer)[0])
    statistics = data.statistics
    texts = [row_to_text(row(number)) for number in range(190)]
    held_out = [row_to_text(row(number, synthetic_answer=ANSWER)) for number in range(190, 220)]
    assert sorted(documents_in(data, "train", tokenizer)) == sorted(texts)
    assert sorted(documents_in(data, "validation", tokenizer)) == sorted(held_out)
    assert len(data.validation) == statistics.sequences["validation"] > 0
    assert statistics.dropped_rows == {"in the validation set": 10, "no question": 2}
    assert statistics.kept_rows == {"train": 190, "validation": 30}
    assert statistics.rows_read == 232
    assert statistics.rows_by_language == {"en": 190, "fr": 30}
    assert statistics.shared_articles == 0
    assert statistics.sha256.keys() == {"train", "validation"}
    assert touch_articles(data.article_files, [row(189), row(190)]) == [True, False]


def test_what_decides_the_validation_set_decides_the_training_rows(settings, write, row, tokenizer):
    def folders(first, **changes):
        file = write("validation.jsonl", [row(number) for number in range(first, first + 20)])
        preparation = to_preparations(settings(validation_dataset=file, **changes), tokenizer)[0]
        return preparation.folder, preparation.validation.folder

    one, other = folders(180), folders(170)
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert folders(180, validation_fraction=0.4, split_seed=3) == one
    weighted = folders(180, language_weights=["en=2"], max_samples=50)
    assert weighted[0] != one[0]
    assert weighted[1] == one[1]


def test_a_stream_leaves_them_out_too(settings, validation_file, tokenizer):
    named = settings(validation_dataset=validation_file, streaming=True, max_eval_sequences=3)
    stream = StreamedSequences(to_preparations(named, tokenizer)[0], shuffle_buffer=50, seed=0)
    loaded = load_streamed_data(MixedStreams([stream], [1.0]), max_eval_sequences=3, processes=1, writes=True)
    assert len(loaded.validation) == 3
    assert loaded.statistics[0].kept_rows == {"validation": 30}
    assert loaded.describe()["validation_set"]["dataset"] == validation_file
    items = [item for item in islice(stream.sequences_of(0), 3000) if item["place"].passes == 0]
    counts = [item["statistics"] for item in items if item["statistics"] is not None]
    assert sum(one.dropped_rows["in the validation set"] for one in counts) == 10
    assert sum(one.kept_rows["train"] for one in counts) == 190
    part = StreamedSequences(to_preparations(settings(), tokenizer)[0], shuffle_buffer=50, seed=0)
    plain = MixedStreams([part], [1.0])
    assert loaded.name != load_streamed_data(plain, max_eval_sequences=3, processes=1, writes=True).name


def test_parts_that_are_prepared_apart_leave_them_out(tiny_recipe, write, row, tmp_path, validation_file):
    (tmp_path / "files").mkdir()
    for number in range(3):
        write(f"files/{number}.jsonl", [row(one) for one in range(number * 70, number * 70 + 70)])

    def prepared(cache, *more):
        words = ["--dataset", str(tmp_path / "files"), "--validation_dataset", validation_file, *more]
        cache_dir = ["--data_cache_dir", str(tmp_path / cache)]
        assert main(["--config", str(tiny_recipe), *words, *cache_dir]) == 0
        files = sorted((tmp_path / cache).glob("*/statistics.json"))
        return [json.loads(file.read_text())["sha256"] for file in files]

    for part in ("2/3", "0/3", "1/3"):
        assert len(prepared("apart", "--shards", part)) == 1  # the validation set
    assert prepared("apart") == prepared("whole")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_dataset": "{rows}"}, r"rows\.jsonl lies here, and has one split: name another"),
        ({"validation_dataset": "{copy}"}, r"--validation_dataset .*copy\.jsonl: its files are those of .*rows\.jsonl"),
        ({"dataset": ["{copy}"], "validation_dataset": "{folder}"}, r"and would leave no row to train on"),
        ({"validation_dataset": "{empty}"}, r"--validation_dataset .*empty\.jsonl is empty: there is nothing in"),
        (
            {"validation_dataset": "{text}", "require_reasoning": True},
            r"--validation_dataset .*texts\.txt: --require_reasoning true: .*texts\.txt has texts",
        ),
        ({"validation_dataset": "nowhere"}, r"--validation_dataset nowhere: 'nowhere' is neither a file or folder"),
        (
            {"dataset": ["{copy}", "{french}"], "validation_split": "test"},
            r"--validation_split test: of which of the data",
        ),
        ({"validation_split": "test"}, r"--validation_split test: .*rows\.jsonl lies here, and has one split"),
        (
            {"validation_dataset": "{french}", "exercises": ["rag"]},
            r"The validation split holds 0 tokens.*other exercis",
        ),
    ],
)
def test_a_validation_set_that_is_none_is_refused_in_one_line(
    settings, rows_file, write, row, tmp_path, tokenizer, changes, message, validation_file
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "texts.txt").write_text("Some text.\n" * 100)
    places = {
        "rows": rows_file,
        "copy": write("copy.jsonl", [row(number) for number in range(200)]),
        "folder": tmp_path / "folder",
        "empty": write("empty.jsonl", []),
        "text": tmp_path / "texts.txt",
        "french": validation_file,
    }
    write("folder/0.jsonl", [row(number) for number in range(200)])
    write("folder/1.jsonl", [row(number) for number in range(300, 310)])

    def fill(value):
        if isinstance(value, list):
            return [fill(one) for one in value]
        return value.format(**places) if isinstance(value, str) else value

    asked = settings(**{name: fill(value) for name, value in changes.items()})
    with pytest.raises(ValueError, match=message) as error:
        prepare_data(to_preparations(asked, tokenizer)[0])
    assert "\n" not in str(error.value)


@pytest.fixture
def write_as(write, row, tmp_path):
    """Writes the rows of some numbers in one of four forms, which all give the same texts; returns the path."""

    def write_as(form, numbers):
        rows = [row(number) for number in numbers]
        if form == "txt":
            (tmp_path / "documents.txt").write_text("###".join(map(row_to_text, rows)))
            return str(tmp_path / "documents.txt")
        if form == "messages":
            answer = {"synthetic_reasoning": "reasoning_content", "synthetic_answer": "content"}
            rows = [
                {
                    "messages": [
                        {"role": "user", "content": one["query"]},
                        {"role": "assistant", **{name: one[column] for column, name in answer.items()}},
                    ]
                }
                for one in rows
            ]
        elif form == "text":
            rows = [{"content": row_to_text(one)} for one in rows]
        return write(f"{form}-{numbers.start}.jsonl", rows)

    return write_as


@pytest.mark.parametrize(
    ("training", "validation"),
    [("text", "synth"), ("text", "messages"), ("text", "txt"), ("synth", "txt"), ("messages", "synth")],
)
def test_a_validation_set_has_a_schema_of_its_own(settings, write_as, tokenizer, training, validation):
    """And rows of the training that give a text of it go, whatever their columns."""
    named = settings(
        dataset=[write_as(training, range(60))],
        validation_dataset=write_as(validation, range(40, 70)),
        document_separator="###",
        text_column="content" if training == "text" else None,
    )
    (preparation,) = to_preparations(named, tokenizer)
    statistics = prepare_data(preparation).statistics
    assert statistics.dropped_rows == {"in the validation set": 20}
    assert statistics.kept_rows == {"train": 40, "validation": 30}
    assert preparation.row_filter.schema.name == training
    assert preparation.validation.describe_source()["schema"] == validation.replace("txt", "text")
    assert len(read_validation(named, tokenizer, max_rows=100).rows) == 30


def test_the_evaluation_reads_the_set_again(settings, validation_file, tokenizer):
    validation = read_validation(settings(validation_dataset=validation_file), tokenizer, max_rows=100)
    assert len(validation.rows) == 30
    assert validation.description == "validation rows of validation.jsonl (split train)"


# Duplicates


@pytest.fixture
def small_chunks(monkeypatch):
    """For preparing in this process only; and few documents are compared at once."""
    monkeypatch.setattr(chunk, "BYTES_PER_CHUNK", 8_000)
    monkeypatch.setattr(duplicates, "KEYS_AT_ONCE", 20)


@pytest.fixture
def repetitive(write, row, tmp_path):
    """A folder of four files: 120 rows, of which some stand in several places, also as French or with a CR."""
    (tmp_path / "files").mkdir()
    rows = [row(number) for number in range(120)]
    rows[1:1] = [row(0)] * 3
    rows += [row(number, language="fr") for number in range(40, 50)] + [row(0), row(119)]
    rows += [row(7, synthetic_answer="8\r\n"), row(200, language="fr"), row(200), row(201, query=None)]
    for number in range(4):
        write(f"files/{number}.jsonl", rows[35 * number : 35 * number + 35])
    return str(tmp_path / "files"), rows


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
@pytest.mark.parametrize("languages", [None, ["en"]])
def test_the_first_of_equal_documents_stays_and_the_others_are_counted(
    settings, repetitive, tokenizer, small_chunks, monkeypatch, packing, languages
):
    folder, rows = repetitive

    def prepare(**changes):
        common = {"packing": packing, "sequence_length": 64, "languages": languages, "validation_fraction": 0.2}
        asked = settings(dataset=[folder], drop_duplicates=True, **{**common, **changes})
        return prepare_data(to_preparations(asked, tokenizer)[0])

    data = prepare()
    usable = [one for one in rows if one["query"] and languages in (None, [one["language"]])]
    texts = [row_to_text(one).replace("\r\n", "") for one in usable]
    found = [text for split in ("train", "validation") for text in documents_in(data, split, tokenizer)]
    assert sorted(found) == sorted(set(texts))
    dropped = data.statistics.dropped_rows
    assert dropped["duplicate"] == len(texts) - len(set(texts)) == (6 if languages else 17)
    assert data.statistics.rows_read == sum(dropped.values()) + len(found)
    monkeypatch.setattr(duplicates, "write_keys", lambda *_: pytest.fail("the pass was made again"))
    assert prepare(sequence_length=32).statistics.dropped_rows == dropped
    if languages is None:
        assert data.statistics.rows_read_by_language["fr"] == 11
        assert data.statistics.rows_by_language["fr"] == 1  # of row 200, which is French first


def test_parts_and_killed_passes_find_the_same_duplicates(
    repetitive, tiny_recipe, tmp_path, small_chunks, monkeypatch, validation_file, caplog
):
    folder, _ = repetitive

    def prepare(cache, *more):
        words = ["--dataset", folder, "--drop_duplicates", "true", "--validation_dataset", validation_file, *more]
        return main(["--config", str(tiny_recipe), *words, "--data_cache_dir", str(tmp_path / cache)])

    def prepared(cache):
        return sorted(file.read_text() for file in (tmp_path / cache).glob("*/statistics.json"))

    assert prepare("whole") == 0
    with monkeypatch.context() as patch:
        calls, replace = [], os.replace

        def fail_at_the_fourth(file, *args):
            calls.extend([file] if str(file).endswith(duplicates.UNFINISHED) else [])
            if len(calls) == 4:
                raise OSError("disk full")
            return replace(file, *args)

        patch.setattr(duplicates.os, "replace", fail_at_the_fourth)
        assert prepare("apart", "--shards", "1/2") == 2
    assert "disk full" in caplog.text
    for part in ("1/2", "0/2"):
        assert prepare("apart", "--shards", part) == 0
    monkeypatch.setattr(duplicates, "write_keys", lambda *_: pytest.fail("a pass was made again"))
    assert prepare("apart") == 0
    assert prepared("apart") == prepared("whole")
    assert any(json.loads(text)["dropped_rows"].get("duplicate") == 16 for text in prepared("whole"))


@pytest.mark.multiprocess
def test_any_number_of_processes_finds_the_same_duplicates(quick_workers, settings, repetitive, tokenizer, tmp_path):
    found = []
    for processes in (1, 2):
        cache = str(tmp_path / f"by-{processes}")
        asked = settings(dataset=[repetitive[0]], drop_duplicates=True, data_cache_dir=cache)
        found.append(prepare_data(to_preparations(asked, tokenizer)[0], processes).statistics)
    assert found[0] == found[1]


def test_duplicates_cannot_be_dropped_where_rows_are_not_all_read_before(settings):
    with pytest.raises(ValueError, match="--drop_duplicates true: a stream does not know"):
        settings(streaming=True, max_eval_sequences=1, drop_duplicates=True)
