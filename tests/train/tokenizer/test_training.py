import json

import pytest
from transformers import AutoTokenizer

from train.tokenizer.__main__ import main
from train.tokenizer.opening import open_tokenizer
from train.tokenizer.text_bytes import bytes_of_ids
from train.tokenizer.training import SMALLEST, train_tokenizer


@pytest.fixture
def words(rows_file, tmp_path):
    cache = ["--data_cache_dir", str(tmp_path / "cache")]
    return ["--dataset", str(rows_file), "--vocab_size", "300", "--validation_fraction", "0.1", *cache]


def test_the_same_text_gives_the_same_file_beside_a_comparison(words, tmp_path, capsys):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        assert main([*words, "--split_digits", "true", "--output_dir", str(folder)]) == 0
    assert folders[0].joinpath("tokenizer.json").read_bytes() == folders[1].joinpath("tokenizer.json").read_bytes()
    figures = json.loads((folders[0] / "comparison.json").read_text())
    assert figures["GPT-2"]["vocabulary"] == 50257
    assert 1 < figures["this one"]["bytes_per_token"]["all"] < 10
    assert (folders[0] / "comparison.png").stat().st_size > 1000
    assert "words kept whole" in capsys.readouterr().out
    assert main([*words, "--output_dir", str(folders[0])]) == 0  # over an earlier one
    assert AutoTokenizer.from_pretrained(folders[1]).tokenize("19 20")[:2] == ["1", "9"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--vocab_size", "256"], "--vocab_size 256 must be at least 257"),
        (["--output_dir", "{full}"], "holds other files (notes.txt)"),
        (["--output_dir", "{empty}/new"], "empty.txt is not a folder"),
        (["--vocab_siz", "300"], "--vocab_siz"),
        ([], "--output_dir"),
    ],
)
def test_a_mistake_is_refused_in_one_line(words, tmp_path, caplog, more, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    (tmp_path / "empty.txt").write_text("")
    places = {"full": tmp_path / "full", "empty": tmp_path / "empty.txt"}
    output = [] if not more or "--output_dir" in more else ["--output_dir", str(tmp_path / "new")]
    assert main([*words, *output, *(word.format(**places) for word in more)]) == 2
    assert message in caplog.records[-1].getMessage()
    assert "\n" not in caplog.records[-1].getMessage()
    assert not (tmp_path / "new").exists()


def test_no_more_rows_are_read_than_max_samples(words, tmp_path):
    sizes = []
    for rows in ("3", "200"):
        folder = tmp_path / rows
        assert main([*words, "--vocab_size", "2000", "--max_samples", rows, "--output_dir", str(folder)]) == 0
        sizes.append(len(AutoTokenizer.from_pretrained(folder)))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", [None, "own"])
def test_the_bytes_of_a_texts_ids_are_its_bytes(own_tokenizer, name):
    tokenizer = open_tokenizer(name and str(own_tokenizer))
    text = " The 12 cats, n'est-ce pas?\n\n  Ünïcode: 日本 🙂"
    sizes = bytes_of_ids(tokenizer)
    assert sum(sizes[token] for token in tokenizer(text)["input_ids"]) == len(text.encode())
    assert sizes[tokenizer.eos_token_id] == 0


def test_with_the_smallest_vocabulary_a_token_is_a_byte():
    text = "O Romeo, Romeo!\n\nWherefore art thou Romeo? Ünïcode: 日本 🙂"
    tokenizer = train_tokenizer([text] * 3, SMALLEST)
    assert len(tokenizer) == SMALLEST == 257
    assert len(tokenizer(text)["input_ids"]) == len(text.encode())
