import itertools
import json

import pytest

from train.data.files import shard_reading
from train.data.files.sources import find_source
from train.data.from_settings import to_preparations
from train.data.rows.conversations import row_to_messages
from train.data.rows.reading import rows_of
from train.data.rows.schemas import find_schema, messages_to_texts
from train.data.sequences.prepare import prepare_data
from train.data.sequences.streamed_sequences import StreamedSequences
from train.settings.arguments import DataArguments


CONVERSATION = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1", "reasoning_content": "One is 1."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "<think>Hm.</think>2"},
]


def write(folder, name, rows):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def prepare(folder, tokenizer, dataset, **settings):
    arguments = DataArguments(
        dataset=[str(dataset)],
        sequence_length=16,
        validation_fraction=0.2,
        data_cache_dir=str(folder / "cache"),
        **settings,
    )
    return prepare_data(to_preparations(arguments, tokenizer)[0])


def documents_in(data, split, tokenizer):
    part = getattr(data, split)
    tokens = [token for number in range(len(part)) for token in part[number]["input_ids"]]
    return tokenizer.decode(tokens).split("<|endoftext|>")


@pytest.mark.parametrize(
    ("row", "options", "name"),
    [
        ({"query": "q", "synthetic_answer": "a", "text": "t"}, {}, "synth"),
        ({"text": "t", "id": 3}, {}, "text"),
        ({"text": "t", "messages": []}, {}, "text"),
        ({"content": "t"}, {"text_column": "content"}, "text"),
        ({"query": "q", "synthetic_answer": "a"}, {"text_column": "query"}, "text"),
        ({"messages": []}, {}, "messages"),
        ({"conversations": []}, {}, "messages"),
    ],
)
def test_the_columns_tell_the_schema(tmp_path, row, options, name):
    assert find_schema(find_source(str(write(tmp_path, "a.jsonl", [row]))), **options).name == name


@pytest.mark.parametrize(
    ("row", "options", "problem"),
    [
        ({"body": "t"}, {}, r"a\.jsonl has no column text; it has body\. Name the one .* --text_column"),
        ({"text": "t"}, {"text_column": "body"}, "has no column body; it has text"),
        (
            {"text": "t"},
            {"needed": {"language": "languages"}},
            r"no column language.* Take back --languages",
        ),
    ],
)
def test_rows_of_no_use_are_refused_by_their_columns(tmp_path, row, options, problem):
    source = find_source(str(write(tmp_path, "a.jsonl", [row])))
    with pytest.raises(ValueError, match=problem):
        find_schema(source, **options)


def test_two_kinds_in_a_folder_are_refused_by_file(tmp_path, row):
    write(tmp_path, "a.jsonl", [row(0)])
    write(tmp_path, "b.jsonl", [{"text": "t"}])
    with pytest.raises(ValueError, match=r"a\.jsonl has rows of synth, .*b\.jsonl of text: keep one kind"):
        find_schema(find_source(str(tmp_path)))


def test_a_column_of_numbers_is_refused_where_it_is_taken_for_text(tmp_path):
    source = find_source(str(write(tmp_path, "a.jsonl", [{"text": 3}])))
    with pytest.raises(ValueError, match="text is 3, a string or null is wanted"):
        list(rows_of(source, find_schema(source)))


def test_texts_become_documents_and_copies_fall_on_one_side(tmp_path, tokenizer):
    rows = [{"text": f"  Text number {number % 150}.\r\nEnd", "language": "en"} for number in range(300)]
    unusable = [{"text": None}, {"text": " \n"}, {"text": "nan"}]
    data = prepare(tmp_path, tokenizer, write(tmp_path, "a.jsonl", [*rows, *unusable]))
    train, validation = (documents_in(data, split, tokenizer) for split in ("train", "validation"))
    assert {"  Text number 7.\nEnd", "  Text number 8.\nEnd"} <= {*train, *validation}
    assert not {*train[:-1]} & {*validation[:-1]}
    assert len(validation) > 20
    assert data.statistics.dropped_rows == {"no text": 2, "text is a written null": 1}
    assert data.statistics.repaired_rows == {"CR line ends": 300}
    assert data.statistics.rows_by_language == {"en": 300}
    assert data.statistics.shared_articles == 0


def test_a_folder_of_small_text_files_is_one_chunk(tmp_path, tokenizer):
    (tmp_path / "texts").mkdir()
    for number in range(200):
        (tmp_path / "texts" / f"{number:03}.txt").write_text(f"This is file {number}, with some words.")
    data = prepare(tmp_path, tokenizer, tmp_path / "texts")
    assert len(data.train.files) == 1
    train, validation = (documents_in(data, split, tokenizer) for split in ("train", "validation"))
    assert len({*train, *validation}) > 195  # the last ones are cut
    assert "This is file 7, with some words." in {*train, *validation}


def test_one_long_text_fills_both_parts(tmp_path, tokenizer):
    book = tmp_path / "book.txt"
    book.write_text("".join(f"Line {number} of a long book.\n" for number in range(20_000)))
    data = prepare(tmp_path, tokenizer, book)
    assert sum(data.statistics.kept_rows.values()) == -(-book.stat().st_size // 8192)
    assert len(data.validation) > 50


def test_conversations_become_the_text_of_the_chat_template(tmp_path, tokenizer):
    messages, _ = row_to_messages({"messages": CONVERSATION})
    expected = "".join(f"{text}<|endoftext|>" for text in messages_to_texts(messages))
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected
    rows = [{"messages": [{**CONVERSATION[1], "content": f"{n}?"}, CONVERSATION[2]]} for n in range(100)]
    data = prepare(tmp_path, tokenizer, write(tmp_path, "a.jsonl", [*rows, {"messages": []}]))
    assert "Q: 5?\n\nReasoning:\nOne is 1.\n\nA: 1" in documents_in(data, "train", tokenizer)
    assert data.statistics.dropped_rows == {"no assistant turn": 1}


def test_settings_of_columns_that_rows_lack_are_refused(tmp_path, tokenizer):
    file = write(tmp_path, "a.jsonl", [{"text": "some words"}])
    with pytest.raises(ValueError, match="no column language"):
        prepare(tmp_path, tokenizer, file, languages=["en"])
    with pytest.raises(ValueError, match="no column exercise"):
        prepare(tmp_path, tokenizer, file, exercise_weights=["rag=2"])
    with pytest.raises(ValueError, match=r"--require_reasoning true: .* texts"):
        prepare(tmp_path, tokenizer, file, require_reasoning=True)


@pytest.mark.parametrize("separator", [None, "\n\n"])
def test_a_stream_of_text_files_goes_on_where_it_was_and_leaves_validation_out(
    tmp_path, tokenizer, separator, monkeypatch
):
    monkeypatch.setattr(shard_reading, "ROWS_PER_BATCH", 3)
    text = "".join(f"Line {number} of a long book.\n{'' if number % 40 else chr(10)}" for number in range(8_000))
    for half, name in ((text[: len(text) // 2], "a.txt"), (text[len(text) // 2 :], "b.txt")):
        (tmp_path / name).write_text(half)
    arguments = DataArguments(
        dataset=[str(tmp_path)],
        document_separator=separator,
        sequence_length=64,
        validation_fraction=0.2,
        data_cache_dir=str(tmp_path / "cache"),
    )
    preparation = to_preparations(arguments, tokenizer)[0]

    def read(count, *place):
        stream = StreamedSequences(preparation, shuffle_buffer=7, seed=0, streams=3)
        return list(itertools.islice(stream.sequences_of(1, *place), count))

    whole = read(600)
    assert max(item["place"].windows for item in whole) > 1
    rest = read(50, whole[549]["place"])
    assert [item["input_ids"].tolist() for item in rest] == [item["input_ids"].tolist() for item in whole[550:]]
    validation = {text for text in documents_in(prepare_data(preparation), "validation", tokenizer) if len(text) > 300}
    streamed = tokenizer.decode([token for item in whole for token in item["input_ids"]]).split("<|endoftext|>")
    assert validation
    assert not validation & set(streamed)
