import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from train.arguments import DataArguments
from train.data import prepare
from train.data.prepare import prepare_data
from train.data.synth import row_to_text, split_of


END_OF_TEXT = 50256


@pytest.fixture
def arguments(tmp_path, rows_file):
    def make(**changes) -> DataArguments:
        settings = {"dataset": str(rows_file), "block_size": 16, "validation_fraction": 0.2}
        return DataArguments(**{**settings, "data_cache_dir": str(tmp_path / "cache"), **changes})

    return make


def read_stream(blocks) -> list[int]:
    return np.concatenate([block["input_ids"] for block in blocks]).tolist()


def test_each_split_is_its_rows_texts_in_order_with_ends(arguments, tokenizer, row):
    data = prepare_data(arguments(), tokenizer)
    for blocks, held_out in ((data.train, False), (data.validation, True)):
        expected = []
        for number in range(200):
            if (split_of(row(number), 0.2, 0) == "validation") == held_out:
                expected += [*tokenizer(row_to_text(row(number)))["input_ids"], END_OF_TEXT]
        assert read_stream(blocks) == expected[: len(expected) // 16 * 16]


def test_the_ledger_adds_up(arguments, tokenizer, tmp_path, row):
    rows = [row(number) for number in range(100)]
    rows += [row(200, query=None), row(201, synthetic_answer=" "), row(202, language="fr"), row(203, language="fr")]
    file = tmp_path / "mixed.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    ledger = prepare_data(arguments(dataset=str(file), languages=["en"]), tokenizer).ledger
    assert ledger.rows_read == 104
    assert ledger.dropped_rows == {"no question": 1, "no answer": 1, "other language": 2}
    assert sum(ledger.kept_rows.values()) == ledger.rows_by_language["en"] == 100
    for split in ("train", "validation"):
        assert ledger.tokens[split] == ledger.blocks[split] * 16 + ledger.left_over_tokens[split]
    text = ledger.render()
    assert "read 104, kept 100, dropped 4" in text
    assert "other language 2" in text


def test_max_samples_counts_usable_rows(arguments, tokenizer):
    ledger = prepare_data(arguments(max_samples=50), tokenizer).ledger
    assert sum(ledger.kept_rows.values()) == 50


def test_end_of_text_in_a_row_stays_text(arguments, tokenizer, tmp_path, row):
    rows = [row(number, synthetic_answer="stop <|endoftext|> go") for number in range(40)]
    file = tmp_path / "marked.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows))
    data = prepare_data(arguments(dataset=str(file)), tokenizer)
    stream = read_stream(data.train)
    documents = data.ledger.kept_rows["train"]
    assert documents - 1 <= stream.count(END_OF_TEXT) <= documents
    assert "stop <|endoftext|> go" in tokenizer.decode(stream)


def test_prepared_data_is_found_again(arguments, tokenizer, monkeypatch):
    first = prepare_data(arguments(), tokenizer)
    monkeypatch.setattr(prepare, "_write_blocks", lambda *_: pytest.fail("prepared twice"))
    second = prepare_data(arguments(), tokenizer)
    assert second.folder == first.folder
    assert second.ledger == first.ledger
    assert read_stream(second.train) == read_stream(first.train)


@pytest.mark.parametrize(
    "changes",
    [{"block_size": 8}, {"languages": ["en"]}, {"exercises": ["memorization"]}, {"max_samples": 60}, {"split_seed": 1}],
)
def test_other_settings_are_prepared_anew(arguments, tokenizer, changes):
    first = prepare_data(arguments(), tokenizer)
    assert prepare_data(arguments(**changes), tokenizer).folder != first.folder


def test_other_rows_are_prepared_anew(arguments, tokenizer, rows_file, row):
    first = prepare_data(arguments(), tokenizer)
    with open(rows_file, "a") as file:
        file.write(json.dumps(row(500)) + "\n")
    second = prepare_data(arguments(), tokenizer)
    assert second.ledger.rows_read == first.ledger.rows_read + 1


def test_a_preparation_that_fails_leaves_nothing_behind(arguments, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "ROWS_PER_BATCH", 50)
    write_rows, calls = prepare._write_rows, []

    def fail_at_the_third_batch(*args):
        calls.append(args)
        if len(calls) == 3:
            raise OSError("disk full")
        write_rows(*args)

    monkeypatch.setattr(prepare, "_write_rows", fail_at_the_third_batch)
    with pytest.raises(OSError, match="disk full"):
        prepare_data(arguments(), tokenizer)
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(prepare, "_write_rows", write_rows)
    assert prepare_data(arguments(), tokenizer).ledger.rows_read == 200


def test_a_process_that_does_not_write_waits_for_the_one_that_does(arguments, tokenizer):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(prepare_data, arguments(), tokenizer, writes=False)
        assert not waiting.done()
        written = prepare_data(arguments(), tokenizer)
        assert waiting.result(timeout=60).folder == written.folder


def test_two_runs_may_prepare_the_same_data_at_once(arguments, tokenizer, monkeypatch):
    write_rows = prepare._write_rows

    def let_the_other_finish_first(*args):
        monkeypatch.setattr(prepare, "_write_rows", write_rows)
        prepare_data(arguments(), tokenizer)
        write_rows(*args)

    monkeypatch.setattr(prepare, "_write_rows", let_the_other_finish_first)
    data = prepare_data(arguments(), tokenizer)
    assert data.ledger.rows_read == 200
    assert [path.name for path in data.folder.parent.iterdir()] == [data.folder.name]


def test_too_few_rows_for_a_block_is_refused_with_the_counts(arguments, tokenizer):
    with pytest.raises(ValueError, match=r"split holds .* tokens, less than one block of 4096"):
        prepare_data(arguments(block_size=4096), tokenizer)


def test_it_is_known_what_the_model_is_taught_about(arguments, tokenizer, row):
    data = prepare_data(arguments(), tokenizer)
    rows = [row(number) for number in range(200)] + [row(900)]
    expected = [split_of(one, 0.2, 0) == "train" for one in rows[:200]] + [False]
    assert data.trained_on_article(rows) == expected
    assert data.trained_on_article([]) == []
