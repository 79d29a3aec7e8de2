"""Streams read every row once a pass, each its own, and go on from any place as if nothing had happened."""

import json
import os
from functools import partial
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from train.data.files import shard_reading
from train.data.files.chunk import BadShardError
from train.data.files.sources import find_source
from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import row_to_text, split_of
from train.data.sequences import streamed_sequences
from train.data.sequences.packing import collate_sequences
from train.data.sequences.preparation import Preparation, SequenceSettings
from train.data.sequences.streamed_sequences import MixedStreams, StreamedSequences
from train.data.sequences.training_data import load_streamed_data
from train.trainer.streaming import NOTES, collate_stream


END_OF_TEXT = 50256
ROWS, FILES = 240, 6
SEQUENCE_LENGTH = 16


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 7)


@pytest.fixture
def folder(tmp_path, row):
    folder = tmp_path / "rows"
    folder.mkdir()
    for file in range(FILES):
        rows = [row(number) for number in range(file * ROWS // FILES, (file + 1) * ROWS // FILES)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


@pytest.fixture
def stream(folder, tokenizer, tmp_path):
    def make(
        process=0,
        processes=1,
        workers=1,
        places=None,
        batches_before=0,
        seed=0,
        row_filter=None,
        **settings,
    ) -> MixedStreams:
        source = find_source(str(folder))
        sequence_settings = SequenceSettings(SEQUENCE_LENGTH, **settings)
        preparation = Preparation(
            source, row_filter or RowFilter(validation_fraction=0.1), sequence_settings, tokenizer, tmp_path
        )
        part = StreamedSequences(
            preparation, shuffle_buffer=20, seed=seed, streams=processes * workers, process=process
        )
        return MixedStreams([part], [1.0], processes=processes, batches_before=batches_before, places=places or {})

    return make


def test_other_rows_under_the_same_names_sizes_and_times_are_another_stream(stream, folder):
    def name():
        return load_streamed_data(stream(), max_eval_sequences=2, processes=1, writes=True).name

    before, file = name(), folder / "3.jsonl"
    status = file.stat()
    file.write_text(file.read_text().replace("What follows", "What becomes"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = name()
    file.touch()
    assert before != after == name()


@pytest.fixture
def training_texts(row):
    rows = [row(number) for number in range(ROWS)]
    return sorted(row_to_text(one) for one in rows if split_of(one, 0.1, 0) == "train")


def one_pass(sequences: MixedStreams, stream: int = 0) -> list[dict]:
    items = []
    for item in sequences.sequences_of(stream):
        if item["place"].places[0].passes:
            return items
        items.append(item)
    raise AssertionError


def texts_in(items, tokenizer) -> list[str]:
    tokens = np.concatenate([item["input_ids"] for item in items]).tolist()
    return tokenizer.decode(tokens).split("<|endoftext|>")


@pytest.mark.parametrize("streams", [1, 2, 4, 9])
def test_a_pass_of_all_streams_has_every_training_row_once(stream, tokenizer, training_texts, streams):
    found = []
    for number in range(streams):
        sequences = stream(processes=streams, process=number)
        items = one_pass(sequences, number)
        statistics_parts = [item["statistics"] for item in items if item["statistics"] is not None]
        documents = sum(statistics.kept_rows["train"] for statistics in statistics_parts)
        # The last document of a pass ends in a sequence of the next one.
        more = list(islice(sequences.sequences_of(number), len(items) + 3))
        found += texts_in(more, tokenizer)[:documents]
    assert sorted(found) == training_texts


def test_rows_are_shuffled_and_anew_in_each_pass(stream, tokenizer, training_texts):
    items = list(islice(stream().sequences_of(0), 900))
    first = texts_in([item for item in items if item["place"].places[0].passes == 0], tokenizer)
    second = texts_in([item for item in items if item["place"].places[0].passes == 1], tokenizer)[1:]
    numbers = [int(text.split("What follows ")[1].split("?")[0]) for text in first[:-1]]
    assert numbers != sorted(numbers)
    common = min(len(first), len(second)) - 2
    assert first[1:common] != second[1:common]
    assert len({number // 40 for number in numbers[:40]}) < FILES  # by files, in an order of their own
    files = list(dict.fromkeys(number // 40 for number in numbers))
    assert files != sorted(files)


def test_another_seed_is_another_order(stream):
    one, other = (list(islice(stream(seed=seed).sequences_of(0), 20)) for seed in (0, 1))
    assert any(not np.array_equal(a["input_ids"], b["input_ids"]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_it_goes_on_from_any_place(stream, packing):
    """Across windows, files and passes."""
    items = list(islice(stream(packing=packing).sequences_of(0), 700))
    assert items[-1]["place"].places[0].passes >= 1
    for stopped in (0, 1, 2, 30, 31, 150, 401, 433, 434, 435, 436, 500):
        places = {0: items[stopped]["place"]}
        again = islice(stream(packing=packing, places=places).sequences_of(0), 120)
        for expected, found in zip(items[stopped + 1 :], again, strict=False):
            assert np.array_equal(found["input_ids"], expected["input_ids"])
            assert found["place"] == expected["place"]
            assert (found["statistics"] is None) == (expected["statistics"] is None)
            assert found["statistics"] is None or found["statistics"] == expected["statistics"]


def test_going_on_reads_no_more_than_a_window_again(stream, monkeypatch):
    items = list(islice(stream().sequences_of(0), 200))
    read = []
    original = streamed_sequences.read_shard

    def counting(*args, **kwargs):
        for batch in original(*args, **kwargs):
            read.append(len(batch.rows))
            yield batch

    monkeypatch.setattr(streamed_sequences, "read_shard", counting)
    next(stream(places={0: items[-1]["place"]}).sequences_of(0))
    assert sum(read) <= 20 + 3 * 7  # the buffer, and the batches that are ahead


def test_the_statistics_counts_each_row_once(stream):
    items = one_pass(stream())
    total = items[0]["statistics"]
    for item in items[1:]:
        if item["statistics"] is not None:
            total.add(item["statistics"])
    assert total.rows_read == ROWS
    assert total.kept_rows["train"] + total.dropped_rows["validation row"] == ROWS
    assert total.cut_documents["train"] == total.kept_rows["train"]  # each is longer than a sequence


@pytest.mark.parametrize("before", [0, 3, 8])
def test_workers_and_processes_give_the_same_batches(stream, before):
    """Two workers of one process, or one of each of two, in any state of going on."""

    def batches(process, processes, workers, places, batches_before, count):
        sequences = stream(process, processes, workers, places, batches_before)
        loader = DataLoader(
            sequences,
            batch_size=2,
            collate_fn=partial(collate_stream, collate_sequences),
            num_workers=workers if workers > 1 else 0,
        )
        return list(islice(loader, count))

    start = batches(0, 1, 2, {}, 0, before)
    places = {batch[NOTES][0]: batch[NOTES][1] for batch in start}
    by_workers = batches(0, 1, 2, places, before, 12)
    uninterrupted = batches(0, 1, 2, {}, 0, before + 12)[before:]
    for found, expected in zip(by_workers, uninterrupted, strict=True):
        assert found["input_ids"].equal(expected["input_ids"])
    if before % 2 == 0:
        by_processes = [batches(process, 2, 1, places, before // 2, 6) for process in range(2)]
        mixed = [batch for pair in zip(*by_processes, strict=True) for batch in pair]
        for found, expected in zip(mixed, uninterrupted, strict=True):
            assert found["input_ids"].equal(expected["input_ids"])


def test_weights_repeat_rows(stream, tokenizer, training_texts):
    row_filter = RowFilter(validation_fraction=0.1, exercise_weights={"memorization": 2.0})
    texts = texts_in(one_pass(stream(row_filter=row_filter)), tokenizer)
    whole = [text for text in texts if text in training_texts]
    assert len(whole) >= 2 * len(training_texts) - 2


def test_a_broken_file_stops_the_stream_by_name_or_is_skipped_and_counted(stream, folder):
    torn = folder / "3.jsonl"
    content = torn.read_text().splitlines()
    torn.write_text("\n".join([*content[:10], "{torn", *content[10:]]))
    with pytest.raises(BadShardError, match=r"3\.jsonl, line 11"):
        one_pass(stream())
    statistics_parts = [
        item["statistics"] for item in one_pass(stream(skip_broken=True)) if item["statistics"] is not None
    ]
    (skipped,) = [reason for statistics in statistics_parts for reason in statistics.skipped_shards]
    assert "3.jsonl, line 11" in skipped
    read = sum(statistics.rows_read for statistics in statistics_parts)
    assert ROWS - ROWS // FILES <= read < ROWS


def test_rows_that_give_no_sequence_are_an_error_and_no_endless_loop(stream):
    with pytest.raises(ValueError, match="gives no sequence of training tokens"):
        next(stream(row_filter=RowFilter(languages=["xx"])).sequences_of(0))
