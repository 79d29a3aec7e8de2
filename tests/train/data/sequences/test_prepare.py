import dataclasses
import errno
import itertools
import json
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from train.data.files import chunk, shard_reading
from train.data.files.chunk import BadShardError, Chunk
from train.data.files.sources import SAMPLE_FOLDER, find_source
from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import article_key, row_to_text, split_of
from train.data.sequences import chunks, prepare
from train.data.sequences.chunk_pool import prepare_task
from train.data.sequences.left_out import KEY_DTYPE, articles_file
from train.data.sequences.preparation import Limit, Preparation, SequenceSettings
from train.data.sequences.prepare import prepare_data, touch_articles


END_OF_TEXT = 50256
PASSAGE = "The river rises in the hills north of the old town and runs through fields of barley to the sea."


@pytest.fixture
def preparation(tmp_path, rows_file, tokenizer):
    def make(dataset=rows_file, cache="cache", max_samples=math.inf, max_tokens=math.inf, **changes) -> Preparation:
        settings = {"sequence_length": 16}
        row_filter = {"validation_fraction": 0.2}
        for name, value in changes.items():
            group = settings if name in {field.name for field in dataclasses.fields(SequenceSettings)} else row_filter
            group[name] = value
        return Preparation(
            find_source(str(dataset)),
            RowFilter(**row_filter),
            SequenceSettings(**settings),
            tokenizer,
            tmp_path / cache,
            Limit(max_samples, max_tokens),
        )

    return make


@pytest.fixture
def write_rows(tmp_path):
    """Writes a file of rows, or with several lists a folder of files; returns what `--dataset` needs."""

    def write(*files, name="own"):
        folder = tmp_path / name
        folder.mkdir()
        for number, rows in enumerate(files):
            text = "".join(json.dumps(one) + "\n" for one in rows)
            (folder / f"{number}.jsonl").write_text(text, encoding="utf-8")
        return str(folder if len(files) > 1 else folder / "0.jsonl")

    return write


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks and batches so small that a file of 200 rows has several of both; for preparing by one process."""
    monkeypatch.setattr(chunk, "BYTES_PER_CHUNK", 10_000)
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 20)


def read_stream(sequences) -> list[int]:
    return np.concatenate([sequence["input_ids"] for sequence in sequences]).tolist()


def read_all(data, split) -> list[int]:
    """All tokens of a split, those that are left over, too."""
    files = getattr(data, split).files
    return np.concatenate([np.fromfile(file, "<u2") for file in files]).tolist()


def documents_of(data, split="train") -> list[list[int]]:
    """Of data that is packed by "concat"."""
    tokens = np.array(read_all(data, split))
    documents = np.split(tokens, np.flatnonzero(tokens == END_OF_TEXT) + 1)
    assert len(documents[-1]) == 0
    return [document.tolist() for document in documents[:-1]]


@pytest.fixture
def encode(tokenizer):
    """A row's document."""
    return lambda one: [*tokenizer(row_to_text(one), split_special_tokens=True)["input_ids"], END_OF_TEXT]


def in_part(rows, split):
    return [one for one in rows if split_of(one, 0.2, 0) == split]


@pytest.mark.parametrize("chunks", ["one chunk", "small chunks"])
def test_each_split_is_its_rows_texts_in_order_with_ends(preparation, row, encode, request, chunks):
    if chunks == "small chunks":
        request.getfixturevalue("small_chunks")
    data = prepare_data(preparation(sequence_length=64))
    assert (len(data.train.files) > 1) == (chunks == "small chunks")
    for split in ("train", "validation"):
        documents = [encode(one) for one in in_part(map(row, range(200)), split)]
        expected = list(itertools.chain(*documents))
        assert read_stream(getattr(data, split)) == expected[: len(expected) // 64 * 64]
        ends = np.cumsum([len(document) for document in documents])
        starts = ends - [len(document) for document in documents]
        assert data.statistics.cut_documents[split] == sum(starts // 64 != (ends - 1) // 64)
        assert data.statistics.padding_tokens[split] == 0


def test_whole_documents_stand_side_by_side_where_that_is_asked_for(preparation, row, encode, small_chunks):
    data = prepare_data(preparation(packing="best_fit", sequence_length=64))
    assert len(data.train.files) > 1
    for split in ("train", "validation"):
        found, padding = [], 0
        for sequence in getattr(data, split):
            ends = np.flatnonzero(sequence["input_ids"] == END_OF_TEXT) + 1
            documents = [part.tolist() for part in np.split(sequence["input_ids"], ends) if len(part)]
            padding += documents.count([END_OF_TEXT])
            found += [document for document in documents if document != [END_OF_TEXT]]
        assert sorted(found) == sorted(encode(one) for one in in_part(map(row, range(200)), split))
        assert data.statistics.padding_tokens[split] == padding > 0
        assert data.statistics.cut_documents[split] == data.statistics.left_over_tokens[split] == 0
        assert data.statistics.sequences[split] * 64 == data.statistics.tokens[split] + padding


def test_the_statistics_adds_up(preparation, write_rows, row):
    rows = [row(number) for number in range(100)]
    rows += [row(200, query=None), row(201, synthetic_answer=" "), row(202, language="fr"), row(203, language="fr")]
    rows += [row(204, query="What\r\nnow?"), row(205, exercise=None), row(206, synthetic_answer="long " * 90)]
    settings = {"languages": ["en"], "max_row_tokens": 80, "exercise_weights": {"memorization": 1.5}}
    data = prepare_data(preparation(dataset=write_rows(rows), **settings))
    statistics = data.statistics
    assert statistics.rows_read == 107
    assert statistics.dropped_rows == {"no question": 1, "no answer": 1, "other language": 2, "too long": 1}
    assert sum(statistics.kept_rows.values()) == statistics.rows_by_language["en"] == 102
    assert statistics.rows_by_exercise == {"memorization": 101, "(none)": 1}
    assert statistics.rows_read_by_language == {"en": 105, "fr": 2}
    assert statistics.rows_read_by_exercise == {"memorization": 106, "(none)": 1}
    assert statistics.repaired_rows == {"CR line ends": 1}
    assert statistics.repeated_rows > 0

    def characters(some):
        columns = ("query", "synthetic_reasoning", "synthetic_answer", "constraints")
        return sum(len((one[column] or "").replace("\r", "")) for one in some for column in columns)

    assert statistics.characters_read == characters(rows)
    assert statistics.dropped_characters["other language"] == characters(rows[102:104])
    assert (
        sum(statistics.kept_characters.values()) + sum(statistics.dropped_characters.values())
        == statistics.characters_read
    )
    for kind in ("language", "exercise"):
        assert sum(getattr(statistics, f"rows_read_by_{kind}").values()) == statistics.rows_read
        assert sum(getattr(statistics, f"rows_by_{kind}").values()) == sum(statistics.kept_rows.values())
        assert sum(getattr(statistics, f"tokens_by_{kind}").values()) == sum(statistics.tokens.values())
    for split in ("train", "validation"):
        assert statistics.tokens[split] == statistics.sequences[split] * 16 + statistics.left_over_tokens[split]
        assert statistics.tokens[split] == len(read_all(data, split))
        assert statistics.documents(split) == len(documents_of(data, split))
        assert statistics.articles[split] == statistics.kept_rows[split]
    assert statistics == data.statistics.from_dict(json.loads((data.folder / "statistics.json").read_text()))
    assert "dropped: other language" in statistics.render()


def test_the_hashes_name_the_tokens(preparation, write_rows, row, rows_file):
    first = prepare_data(preparation()).statistics
    copied = write_rows([row(number) for number in range(200)])
    assert prepare_data(preparation(dataset=copied)).statistics.sha256 == first.sha256
    # Row 0 is for training, as the next line shows, and only that part's hash follows it.
    changed = write_rows([row(0, synthetic_answer="2"), *(row(number) for number in range(1, 200))], name="changed")
    assert split_of(row(0), 0.2, 0) == "train"
    other = prepare_data(preparation(dataset=changed)).statistics
    assert other.sha256["validation"] == first.sha256["validation"]
    assert other.sha256["train"] != first.sha256["train"]


def test_max_samples_counts_usable_rows(preparation):
    statistics = prepare_data(preparation(max_samples=50)).statistics
    assert sum(statistics.kept_rows.values()) == statistics.rows_read == 50


@pytest.fixture
def four_files(write_rows, row):
    """A folder of 240 rows, of which some are dropped."""
    rows = [row(number, **({"synthetic_answer": None} if number % 7 == 3 else {})) for number in range(240)]
    return write_rows(*(rows[60 * number : 60 * (number + 1)] for number in range(4)))


@pytest.mark.parametrize("weights", [{}, {"memorization": 2.5}])
@pytest.mark.parametrize("limit", [{"max_samples": 130}, {"max_tokens": 2700}])
def test_a_limit_gives_the_first_rows_to_within_a_batch_whatever_the_number_of_processes(
    quick_workers, preparation, four_files, limit, weights, monkeypatch
):
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 20)
    changes = {"dataset": four_files, "exercise_weights": weights}
    whole = prepare_data(preparation(**changes))
    found = []
    for processes in (1, 2):
        data = prepare_data(preparation(**changes, **limit, cache=f"by-{processes}"), processes)
        found.append((data.statistics, read_all(data, "train"), read_all(data, "validation")))
        used = {file.parent.name for file in data.train.files}
        assert {path.name for path in (data.folder / "chunks").iterdir()} == used
    assert found[0] == found[1]
    statistics, *tokens = found[0]
    if "max_samples" in limit:
        assert 130 <= sum(statistics.kept_rows.values()) < 130 + 20
    else:
        most = max(map(len, documents_of(data)))
        assert 2700 <= statistics.tokens["train"] < 2700 + 20 * 3 * most
    assert statistics.rows_read % 20 == 0
    assert statistics.rows_read < whole.statistics.rows_read
    if not weights:
        for split, some in zip(("train", "validation"), tokens, strict=True):
            assert some == read_all(whole, split)[: len(some)]


def test_a_limit_beyond_the_rows_changes_nothing(preparation, small_chunks):
    statistics = prepare_data(preparation()).statistics
    limits = {"max_samples": 201, "max_tokens": statistics.tokens["train"] + 1}
    assert prepare_data(preparation(**limits)).statistics == statistics


def test_end_of_text_in_a_row_stays_text(preparation, tokenizer, write_rows, row):
    rows = [row(number, synthetic_answer="stop <|endoftext|> go") for number in range(40)]
    data = prepare_data(preparation(dataset=write_rows(rows)))
    assert read_all(data, "train").count(END_OF_TEXT) == data.statistics.kept_rows["train"]
    assert "stop <|endoftext|> go" in tokenizer.decode(read_stream(data.train))


def test_prepared_data_is_found_again(preparation, monkeypatch):
    first = prepare_data(preparation())
    monkeypatch.setattr(prepare, "prepare_chunks", lambda *_: pytest.fail("prepared twice"))
    for processes in (1, 3):
        second = prepare_data(preparation(), processes)
        assert second.folder == first.folder
        assert second.statistics == first.statistics
        assert read_stream(second.train) == read_stream(first.train)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence_length": 8},
        {"languages": ["en"]},
        {"exercises": ["memorization"]},
        {"require_reasoning": True},
        {"min_row_tokens": 3},
        {"max_row_tokens": 1000},
        {"exercise_weights": {"memorization": 2}},
        {"language_weights": {"en": 2}},
        {"evaluation_sets": (str(SAMPLE_FOLDER / "train.parquet"),)},
        {"max_samples": 60},
        {"max_tokens": 2000},
        {"packing": "best_fit"},
        {"skip_broken": True},
        {"validation_fraction": 0.3},
        {"split_seed": 1},
    ],
)
def test_other_settings_are_prepared_anew(preparation, changes):
    assert preparation(**changes).folder != preparation().folder


def test_an_evaluation_set_that_changed_is_prepared_anew(preparation, tmp_path, row, write_rows):
    evaluation = tmp_path / "evaluation.txt"
    dataset = write_rows([row(number, synthetic_answer=f"{PASSAGE} {number}") for number in range(50)])
    settings = {"dataset": dataset, "evaluation_sets": (str(evaluation),)}
    evaluation.write_text("words that stand in no row of this data set at all here")
    first = prepare_data(preparation(**settings))
    assert first.statistics.dropped_rows == {}
    evaluation.write_text(PASSAGE)
    with pytest.raises(ValueError, match=r"The train split holds 0 tokens"):
        prepare_data(preparation(**settings))


def test_other_rows_are_prepared_anew(preparation, rows_file, row):
    first = prepare_data(preparation())
    with open(rows_file, "a") as file:
        file.write(json.dumps(row(500)) + "\n")
    second = prepare_data(preparation())
    assert second.statistics.rows_read == first.statistics.rows_read + 1


def test_rows_that_changed_under_the_same_size_and_time_are_prepared_anew(preparation, rows_file, monkeypatch):
    first, status = prepare_data(preparation()), rows_file.stat()
    rows_file.write_text(rows_file.read_text().replace("What follows", "What becomes"))
    os.utime(rows_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert rows_file.stat().st_size == status.st_size
    second = prepare_data(preparation())
    assert read_all(second, "train") != read_all(first, "train")
    monkeypatch.setattr(prepare, "prepare_chunks", lambda *_: pytest.fail("prepared again"))
    rows_file.touch()
    moved = rows_file.rename(rows_file.with_name("moved.jsonl"))
    assert prepare_data(preparation(dataset=moved)).folder == second.folder


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(preparation, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    for cache, reason in (("taken", "Not a directory"), ("/proc/nowhere", "No such file or directory")):
        with pytest.raises(ValueError, match=rf"{cache}.* cannot be written \({reason}\).*name another --data_cache"):
            prepare_data(preparation(cache=cache))
    monkeypatch.setattr(chunks.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(ValueError, match=r"cache/.* cannot be written \(No space left\): make room"):
        prepare_data(preparation())


@pytest.mark.parametrize("loss", ["a file", "its end"])
def test_prepared_data_that_lost_tokens_is_refused(preparation, small_chunks, loss):
    file = prepare_data(preparation()).train.files[1]
    content = file.read_bytes()
    file.unlink() if loss == "a file" else file.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="has lost tokens since they were prepared: remove it"):
        prepare_data(preparation())


def test_names_that_no_row_has_are_said(preparation, caplog):
    settings = {"languages": ["en", "xx"], "exercise_weights": {"memorisation": 2, "memorization": 1}}
    prepare_data(preparation(**settings))
    assert "No row that was read has exercise memorisation or language xx, which the settings name" in caplog.text


def test_a_process_that_does_not_write_waits_for_the_one_that_does(preparation):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(prepare_data, preparation(), writes=False)
        assert not waiting.done()
        written = prepare_data(preparation())
        assert waiting.result(timeout=60).folder == written.folder


def test_two_runs_may_prepare_the_same_data_at_once(preparation, small_chunks, monkeypatch):
    """Both begin before either has a chunk, and so each chunk is wanted twice."""
    both_began = threading.Barrier(2)
    prepare_chunks, write, written = prepare.prepare_chunks, chunks._write, []

    def begin_together(*args, **kwargs):
        both_began.wait(60)
        return prepare_chunks(*args, **kwargs)

    def note(folder, *args):
        written.append(folder)
        return write(folder, *args)

    monkeypatch.setattr(prepare, "prepare_chunks", begin_together)
    monkeypatch.setattr(chunks, "_write", note)
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda _: prepare_data(preparation()), range(2))
    assert first.folder == second.folder
    assert first.statistics == second.statistics
    assert first.statistics.rows_read == 200
    assert len(written) == len(set(written)) == len(first.train.files) > 1
    assert {path.name for path in first.folder.parent.iterdir()} == {first.folder.name, "checksums"}


def test_runs_whose_limits_differ_may_prepare_a_chunk_at_once(preparation, monkeypatch):
    """As two runs of several processes do: what room is left when a chunk is begun depends on who was quick."""
    write, begun = chunks._write, threading.Barrier(2)
    asked = preparation()
    task = (Chunk(0, 0, 1),)

    def wait_for_the_other(*args):
        with suppress(threading.BrokenBarrierError):  # as it should be: the other one waits for this one's chunk
            begun.wait(0.5)
        return write(*args)

    monkeypatch.setattr(chunks, "_write", wait_for_the_other)
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda rows: prepare_task(asked, task, Limit(rows)), (1000, 2000))
    assert first == second
    assert first[0].statistics.rows_read == 200


def test_two_runs_may_seal_the_same_data_at_once(preparation, monkeypatch):
    """They come to it together, as each has waited for the other's last chunk; here both are ready before either
    writes."""
    write_whole, both_ready = prepare.write_whole, threading.Barrier(2)

    def write_together(*args):
        with suppress(threading.BrokenBarrierError):  # as it should be: only one of them seals
            both_ready.wait(0.5)
        write_whole(*args)

    monkeypatch.setattr(prepare, "write_whole", write_together)
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda _: prepare_data(preparation()), range(2))
    assert first.statistics == second.statistics
    assert first.statistics.rows_read == 200


def test_sealing_leaves_alone_what_another_run_is_writing(preparation, tmp_path):
    asked = preparation(max_samples=50)
    folder = asked.folder
    for name in ("00007-0000-of-0001-rows-3.unfinished", "00008-0000-of-0001.unfinished", "00009-0000-of-0001"):
        (folder / "chunks" / name).mkdir(parents=True)
    with chunks.chunk_lock(folder, "00007-0000-of-0001"):
        prepare_data(asked)
    left = {path.name for path in (folder / "chunks").iterdir()}
    assert left == {"00000-0000-of-0001-rows-50", "00007-0000-of-0001-rows-3.unfinished"}


def test_too_few_rows_for_a_sequence_is_refused_with_the_counts(preparation):
    with pytest.raises(ValueError, match=r"split holds .* tokens, less than one sequence of 4096") as error:
        prepare_data(preparation(sequence_length=4096, languages=["fr"]))
    assert "dropped: other language" in str(error.value)
    assert not preparation(sequence_length=4096, languages=["fr"]).is_whole


def test_it_is_known_what_the_model_is_taught_about(preparation, row, small_chunks):
    data = prepare_data(preparation())
    rows = [row(number) for number in range(200)] + [row(900)]
    expected = [split_of(one, 0.2, 0) == "train" for one in rows[:200]] + [False]
    assert touch_articles(data.article_files, rows) == expected
    assert touch_articles(data.article_files, []) == []


def test_it_is_known_of_linked_articles_too(preparation, row, write_rows):
    links = (f"https://article/{number}" for number in itertools.count())
    link = next(link for link in links if split_of(row(0, query_seed_url=link), 0.2, 0) == "train")
    training = in_part(map(row, range(200)), "train")
    training[5]["additional_seed_url"] = link
    # Files of one row too, whose articles are few.
    dataset = write_rows(training[:1], training[1:2], training[2:] + in_part(map(row, range(200)), "validation"))
    data = prepare_data(preparation(dataset=dataset))
    asked = [row(999, query_seed_url=link), row(999), *training[:2]]
    assert touch_articles(data.article_files, asked) == [True, False, True, True]


# Weights


def counts_by_row(data, rows, encode, split="train"):
    documents = documents_of(data, split)
    return [documents.count(encode(one)) for one in rows]


def test_weights_give_about_their_share_of_the_rows(preparation, row, encode, write_rows):
    rows = [row(number, exercise="mcq" if number % 2 else "memorization") for number in range(800)]
    dataset = write_rows(rows)
    settings = {"dataset": dataset, "exercise_weights": {"mcq": 0.3}}
    data = prepare_data(preparation(**settings))
    training = in_part(rows, "train")
    counts = counts_by_row(data, training, encode)
    weighted = [count for count, one in zip(counts, training, strict=True) if one["exercise"] == "mcq"]
    others = [count for count, one in zip(counts, training, strict=True) if one["exercise"] != "mcq"]
    assert set(others) == {1}
    assert set(weighted) == {0, 1}
    # About 320 coins: five standard deviations are 0.13.
    assert abs(sum(weighted) / len(weighted) - 0.3) < 0.13
    assert data.statistics.dropped_rows == {"weight": weighted.count(0)}
    assert set(counts_by_row(data, in_part(rows, "validation"), encode, "validation")) == {1}
    again = prepare_data(preparation(**settings, cache="again"))
    assert read_all(again, "train") == read_all(data, "train")


def test_a_weight_of_0_drops_all_training_rows_of_a_kind_and_no_validation_one(preparation, row, encode, write_rows):
    rows = [row(number, language="fr" if number % 2 else "en") for number in range(200)]
    data = prepare_data(preparation(dataset=write_rows(rows), language_weights={"fr": 0}))
    training = in_part(rows, "train")
    assert counts_by_row(data, training, encode) == [int(one["language"] == "en") for one in training]
    assert data.statistics.dropped_rows == {"weight": sum(one["language"] == "fr" for one in training)}
    validation = in_part(rows, "validation")
    assert {one["language"] for one in validation} == {"en", "fr"}
    assert counts_by_row(data, validation, encode, "validation") == [1] * len(validation)


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_weight_of_2_has_each_row_twice_but_not_side_by_side(preparation, row, encode, packing):
    settings = {"exercise_weights": {"memorization": 2}, "packing": packing, "sequence_length": 128}
    data = prepare_data(preparation(**settings))
    rows = [row(number) for number in range(200)]
    training, validation = ([encode(one) for one in in_part(rows, split)] for split in ("train", "validation"))
    statistics = data.statistics
    assert statistics.kept_rows == {"train": len(training), "validation": len(validation)}
    assert statistics.repeated_rows == len(training)
    # Repeated rows are in `tokens`.
    assert statistics.tokens["train"] == 2 * sum(map(len, training))
    assert statistics.tokens["validation"] == sum(map(len, validation))
    assert sum(statistics.tokens_by_exercise.values()) == sum(statistics.tokens.values())
    if packing == "concat":
        assert documents_of(data) == [*training, *training]
        assert documents_of(data, "validation") == validation
    else:
        assert statistics.sequences["train"] * 128 == statistics.tokens["train"] + statistics.padding_tokens["train"]
    for sequence in data.train:
        text = sequence["input_ids"].tolist()
        whole = [tuple(part) for part in np.split(text, np.flatnonzero(np.array(text) == END_OF_TEXT) + 1)]
        whole = [part for part in whole if len(part) > 1]
        assert len(whole) == len(set(whole)) > 1


# Which rows


def test_only_rows_with_reasoning_where_that_is_asked_for(preparation, row, encode, write_rows):
    rows = [row(number, synthetic_reasoning=None if number % 3 else "So.") for number in range(300)]
    data = prepare_data(preparation(dataset=write_rows(rows), require_reasoning=True))
    assert data.statistics.dropped_rows == {"no reasoning": 200}
    for split in ("train", "validation"):
        expected = [encode(one) for one in in_part(rows[::3], split)]
        assert documents_of(data, split) == expected


def test_rows_of_other_lengths_are_dropped(preparation, row, encode, write_rows):
    rows = [row(number, synthetic_answer="word " * (number % 40)) for number in range(200)]
    rows = [one for one in rows if one["synthetic_answer"]]
    lengths = [len(encode(one)) for one in rows]
    limits = {"min_row_tokens": min(lengths) + 5, "max_row_tokens": max(lengths) - 5}
    data = prepare_data(preparation(dataset=write_rows(rows), **limits))
    kept = [
        one
        for one, length in zip(rows, lengths, strict=True)
        if limits["min_row_tokens"] <= length <= limits["max_row_tokens"]
    ]
    assert data.statistics.dropped_rows == {
        "too short": sum(length < limits["min_row_tokens"] for length in lengths),
        "too long": sum(length > limits["max_row_tokens"] for length in lengths),
    }
    for split in ("train", "validation"):
        documents = documents_of(data, split)
        assert documents == [encode(one) for one in in_part(kept, split)]
    sizes = [len(document) for document in documents_of(data)]
    assert (min(sizes), max(sizes)) == tuple(limits.values())


@pytest.mark.parametrize("processes", [1, 2])
def test_training_rows_that_overlap_with_an_evaluation_set_are_dropped(
    quick_workers, preparation, row, encode, write_rows, tmp_path, processes
):
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text(f"{PASSAGE}\n\n{' '.join(f'w{number}' for number in range(20))}")
    overlap = " ".join(PASSAGE.lower().split()[4:17])  # thirteen words
    no_overlap = " ".join(PASSAGE.split()[4:16])  # twelve
    rows = []
    for number in range(300):
        columns = ({"synthetic_answer": f"Well: {overlap}."}, {"synthetic_reasoning": no_overlap}, {}, {})
        rows.append(row(number, **columns[number % 4]))
    dataset = write_rows(rows[:150], rows[150:])
    data = prepare_data(preparation(dataset=dataset, evaluation_sets=(str(evaluation),)), processes)
    training = in_part(rows, "train")
    kept = [one for one in training if overlap not in one["synthetic_answer"]]
    assert data.statistics.dropped_rows == {"contaminated": len(training) - len(kept)}
    assert 0 < len(kept) < len(training)
    assert documents_of(data) == [encode(one) for one in kept]
    validation = in_part(rows, "validation")
    assert any(overlap in one["synthetic_answer"] for one in validation)
    assert documents_of(data, "validation") == [encode(one) for one in validation]


def test_rows_that_link_to_articles_of_both_parts_are_dropped(preparation, row, encode, write_rows):
    rows = [row(number, additional_seed_url=f"https://article/{number}") for number in range(300)]
    sides = [split_of(one, 0.2, 0) for one in rows]
    data = prepare_data(preparation(dataset=write_rows(rows)))
    assert data.statistics.dropped_rows == {"links to articles of both parts": sides.count(None)}
    assert min(sides.count(side) for side in (None, "train", "validation")) > 3
    for split in ("train", "validation"):
        assert documents_of(data, split) == [encode(one) for one in in_part(rows, split)]
        assert data.statistics.articles[split] == 2 * data.statistics.kept_rows[split]
    assert data.statistics.shared_articles == 0


def test_parts_share_no_article_however_often_rows_touch_it(preparation, row, write_rows):
    rows = [
        row(number, query_seed_url=f"https://article/{number % 60}", additional_seed_url=f"https://article/{link}")
        for number in range(600)
        for link in [number * 7 % 60]
    ]
    data = prepare_data(preparation(dataset=write_rows(rows)))
    assert data.statistics.shared_articles == 0
    assert data.statistics.articles["train"] == 2 * data.statistics.kept_rows["train"]
    assert data.statistics.articles["validation"] == 2 * data.statistics.kept_rows["validation"] > 20
    assert "training and validation share: 0" in data.statistics.render()


def test_shared_articles_would_be_counted(tmp_path):
    """The other way round: the count of 0 above is no accident."""
    folders = []
    for name, training, validation in (("0", "abca", "x"), ("1", "d", "bbye"), ("2", "", "ad"), ("3", "e", "")):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        for split, articles in (("train", training), ("validation", validation)):
            keys = b"".join(article_key(article) for article in articles)
            np.frombuffer(keys, KEY_DTYPE).tofile(folders[-1] / articles_file(split))
    assert prepare._count_shared_articles(folders, folders) == len("abde")
    assert prepare._count_shared_articles(folders[:2], folders[:2]) == len("b")
    assert prepare._count_shared_articles(folders[:1], folders[:1]) == 0


# What cannot be read


@pytest.fixture
def one_broken_of_three(write_rows, row):
    folder = write_rows(*([row(60 * file + number) for number in range(60)] for file in range(3)))
    with open(f"{folder}/1.jsonl", "a") as file:
        file.write('{"query": "torn')
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_cannot_be_read_ends_the_preparation(quick_workers, preparation, one_broken_of_three, processes):
    asked = preparation(dataset=one_broken_of_three)
    with pytest.raises(BadShardError, match=r"own/1\.jsonl, line 61 is no JSON"):
        prepare_data(asked, processes)
    assert not asked.is_whole


@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_cannot_be_read_is_skipped_and_counted_where_that_is_asked_for(
    quick_workers, preparation, one_broken_of_three, row, encode, processes
):
    data = prepare_data(preparation(dataset=one_broken_of_three, skip_broken=True), processes)
    assert len(data.statistics.skipped_shards) == 1
    assert "part 1 of 1: " in data.statistics.skipped_shards[0]
    assert "own/1.jsonl, line 61 is no JSON" in data.statistics.skipped_shards[0]
    assert data.statistics.skipped_shards[0] in data.statistics.render()
    assert data.statistics.rows_read == 120
    others = [row(number) for number in (*range(60), *range(120, 180))]
    for split in ("train", "validation"):
        assert documents_of(data, split) == [encode(one) for one in in_part(others, split)]


def test_only_the_chunk_with_the_unreadable_line_is_skipped(preparation, one_broken_of_three, small_chunks):
    """A file has several; its others are used."""
    data = prepare_data(preparation(dataset=one_broken_of_three, skip_broken=True))
    assert len(data.statistics.skipped_shards) == 1
    assert 120 < data.statistics.rows_read < 180


def test_a_file_that_is_not_what_its_checksum_says_is_skipped_again_under_a_limit(
    preparation, write_rows, row, monkeypatch
):
    """Parts skipped before a preparation was interrupted are there already."""
    folder = write_rows(*([row(60 * file + number) for number in range(60)] for file in range(3)))
    (Path(folder) / "SHA256SUMS").write_text(f"{'0' * 64}  0.jsonl\n")
    settings = preparation(dataset=folder, skip_broken=True, max_samples=100)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "seal", lambda *_: pytest.fail("interrupted"))
        with pytest.raises(pytest.fail.Exception, match="interrupted"):
            prepare_data(settings)
    statistics = prepare_data(settings).statistics
    assert sum(statistics.kept_rows.values()) == 100
    assert len(statistics.skipped_shards) == 1


def test_rows_that_are_no_utf8_are_counted(preparation, write_rows, row):
    dataset = write_rows([row(number) for number in range(60)])
    with open(dataset, "ab") as file:
        file.write(b'{"query": "caf\xe9"}\n')
    statistics = prepare_data(preparation(dataset=dataset)).statistics
    assert statistics.rows_read == 61
    assert statistics.dropped_rows == {"invalid UTF-8": 1}


# Chunks


def test_chunks_that_another_limit_left_are_not_taken_for_this_one(preparation, four_files):
    """A chunk that ends at a limit is only found again under the same."""
    asked = preparation(dataset=four_files)
    task = (Chunk(0, 0, 1),)
    for number, rows in enumerate((20, 10, 30, math.inf, 20)):
        (found,) = prepare_task(asked, task, Limit(rows))
        (anew,) = prepare_task(preparation(dataset=four_files, cache=f"new-{number}"), task, Limit(rows))
        assert found.statistics == anew.statistics
        assert rows <= sum(found.statistics.kept_rows.values()) < 2 * rows or rows == math.inf
