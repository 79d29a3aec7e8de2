"""From rows to what sft trains on: what is counted, what is held out, what is found again."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from train.data.files.chunk import BadShardError
from train.errors import RunRefusedError
from train.post_training.data import prepare
from train.post_training.data.from_settings import to_preparation
from train.post_training.data.prepare import load_data
from train.post_training.settings.recipe import parse_recipe


@pytest.fixture
def load(tmp_path, tokenizer):
    """`load(rows, *words)`: the data of a recipe on these rows."""

    def load(rows, *words, method="sft"):
        file = tmp_path / "rows.jsonl"
        if rows is not None:
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"method: {method}\ndataset: {file}\ndata_cache_dir: {tmp_path / 'cache'}\n")
        output = ("--output_dir", str(tmp_path / "run"))
        argv = ["--config", str(recipe), *output, "--validation_fraction", "0.5", *words]
        recipe = parse_recipe(argv)
        return load_data(to_preparation(recipe, tokenizer, context_tokens=1024), recipe.rows.max_eval_samples)

    return load


def chat(number, *answers):
    messages = []
    for answer in answers or ("So.",):
        messages += [{"role": "user", "content": f"Why {number}?"}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def first_questions(dataset, tokenizer):
    texts = [tokenizer.decode(example["input_ids"]) for example in dataset]
    return {next(line for line in text.splitlines() if line.startswith("Q: ")) for text in texts}


def test_everything_that_is_read_is_counted_once(load, tokenizer):
    bad = [{"messages": []}, chat(1, ""), {"messages": [{"role": "tool", "content": "x"}]}]
    long = [chat(number, "So. " * 500) for number in range(3)]
    cut = [chat(number, "So.", "So. " * 500) for number in range(100, 104)]
    rows = [chat(number) for number in range(40)] + bad + long + cut
    data = load(rows, "--max_length", "64")
    statistics = data.statistics
    assert (
        statistics.rows_read == len(rows) == sum(statistics.kept_rows.values()) + sum(statistics.dropped_rows.values())
    )
    assert statistics.dropped_rows == {
        "no assistant turn": 1,
        "empty message of the assistant": 1,
        "unknown role 'tool'": 1,
        "longer than --max_length": 3,
    }
    assert statistics.repaired_rows == {"turns beyond --max_length left off": 4}
    assert statistics.kept_rows == {"train": len(data.train), "validation": len(data.validation)}
    for split, dataset in (("train", data.train), ("validation", data.validation)):
        assert statistics.tokens[split] == sum(len(example["input_ids"]) for example in dataset)
        learnt = [label for example in dataset for label in example["labels"] if label != -100]
        assert statistics.answer_tokens[split] == len(learnt)
        assert learnt.count(tokenizer.eos_token_id) == statistics.kept_rows[split]
    assert "dropped: no assistant turn" in statistics.render()


def test_conversations_that_begin_alike_fall_on_the_same_side(load, tokenizer):
    """Whatever the system message before the first question."""
    rows = [chat(number % 30, f"So {number}.") for number in range(300)]
    for number, row in enumerate(rows[::7]):
        row["messages"].insert(0, {"role": "system", "content": f"Be brief {number}."})
    data = load(rows)
    train, validation = (first_questions(dataset, tokenizer) for dataset in (data.train, data.validation))
    assert len(train | validation) == 30
    assert not train & validation
    assert data.is_known([{"query_seed_url": "x", "query": "Why 1?"}]) is None


def test_synth_rows_are_parted_by_their_articles_as_in_pre_training(load, row, tokenizer):
    rows = [row(number, query_seed_url=f"test://{number % 20}") for number in range(100)]
    data = load([*rows, row(200, additional_seed_url=" ".join(f"http://x/{n}" for n in range(40)))])
    assert data.statistics.dropped_rows == {"links to articles of both parts": 1}
    known = data.is_known(rows)
    texts = {tokenizer.decode(example["input_ids"]) for example in data.train}
    for one, is_known in zip(rows, known, strict=True):
        assert any(f"Q: {one['query']}\n" in text for text in texts) == is_known
    assert data.statistics.rows_by_exercise == {"memorization": 100}


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_validation_set_named_apart_is_all_for_validation(load, tmp_path, row, tokenizer, method):
    """And what shares a seed article or first message with it is not trained on, and counted."""

    def make(numbers, answer):
        if method == "sft":
            return [row(number, synthetic_answer=answer) for number in numbers]
        return [{"prompt": f"Why {number}?", "chosen": answer, "rejected": "No."} for number in numbers]

    apart = tmp_path / "apart.jsonl"
    apart.write_text("".join(f"{json.dumps(one)}\n" for one in make(range(30, 50), "So.")))
    rows = make(range(40), "Yes.")
    data = load(rows, "--validation_dataset", str(apart), "--max_samples", "25", method=method)
    assert data.statistics.kept_rows == {"validation": 20, "train": 25}
    assert load(rows, "--validation_dataset", str(apart), method=method).statistics.dropped_rows == {
        "in the validation set": 10
    }
    column = "input_ids" if method == "sft" else "chosen_ids"
    assert all(" Yes" in tokenizer.decode(example[column]) for example in data.train)
    assert all(" So" in tokenizer.decode(example[column]) for example in data.validation)
    with pytest.raises(ValueError, match=r"--validation_dataset .*rows\.jsonl: .*rows\.jsonl lies here, and has one"):
        load(rows, "--validation_dataset", str(tmp_path / "rows.jsonl"), method=method)


def test_rows_of_other_languages_are_dropped_and_so_are_those_that_name_none(load, row, caplog):
    rows = [row(number) for number in range(20)] + [row(number, language="fr") for number in range(20, 30)]
    chats = [{**chat(number), "language": language} for number, language in enumerate(["en", "fr", None])]
    words = ("--languages", "en", "xx", "--exercises", "memorization")
    statistics = load([*rows, *chats, chat(3)], *words).statistics
    assert statistics.dropped_rows == {"other language": 13, "other exercise": 1}
    assert sum(statistics.kept_rows.values()) == 20
    assert "No row that was read has language xx" in caplog.text


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_no_more_rows_are_read_than_wanted(load, row, method):
    data = load([row(number) for number in range(60)], "--max_samples", "20", method=method)
    assert data.statistics.rows_read == 20 == sum(data.statistics.kept_rows.values())
    assert len(data.train) + len(data.validation) == 20


def test_evaluation_takes_the_first_rows(load, row):
    data = load([row(number) for number in range(60)], "--max_eval_samples", "3")
    assert len(data.validation) == 3


def test_tokens_are_found_again_and_made_anew_when_the_rows_change(load, row, monkeypatch):
    rows = [row(number) for number in range(40)]
    first = load(rows)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_write_examples", lambda *args: pytest.fail("written again"))
        assert load(None).name == first.name
    assert load([*rows, row(99)]).name != first.name


@pytest.mark.parametrize("kept", [None, 0.5, 0.999])
def test_examples_that_were_lost_are_refused(load, row, kept):
    file = load([row(number) for number in range(40)]).folder / "train.arrow"
    content = file.read_bytes()
    file.unlink() if kept is None else file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match="has lost examples since they were made: remove it"):
        load(None)


def test_a_preparation_that_was_killed_leaves_nothing(load, row, monkeypatch):
    rows = [row(number) for number in range(40)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare.RowStatistics, "to_dict", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
        load(rows)
    assert len(load(None).train)


def test_parquet_and_json_lines_are_the_same_rows(load, tmp_path, row):
    rows = [chat(number) for number in range(40)]
    lines = load(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    parquet = load(None, "--dataset", str(tmp_path / "rows.parquet"))
    assert parquet.train[:] == lines.train[:]


def test_lines_that_are_no_utf8_are_counted(load, tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(chat(number)).encode() for number in range(40)]
    file.write_bytes(b"\n".join([*lines, b'{"messages": "caf\xe9"}']))
    statistics = load(None, "--dataset", str(file)).statistics
    assert statistics.rows_read == 41
    assert statistics.dropped_rows == {"invalid UTF-8": 1}


def test_pairs_and_questions_are_prepared_in_the_same_way(load, row, tokenizer):
    pairs = [{"prompt": f"Why {n}?", "chosen": "So.", "rejected": "No."} for n in range(40)]
    data = load(pairs, method="dpo")
    assert len(data.train) + len(data.validation) == 40
    assert tokenizer.decode(data.train[0]["chosen_ids"]) == "A: So.<|endoftext|>"
    rows = [row(number) for number in range(40)]
    questions = load(rows, method="grpo").train
    assert load(rows, method="dpo").train[:] == questions[:]
    assert questions.column_names == ["prompt", "exercise", "query", "synthetic_answer"]
    assert questions["prompt"][:] == [f"Q: {query}" for query in questions["query"]]


def test_rows_of_no_form_for_the_method_are_refused(load):
    with pytest.raises(BadShardError, match="has no column rejected or query, synthetic_answer; it has prompt, chosen"):
        load([{"prompt": "Why?", "chosen": "So."}], method="dpo")


def test_rows_without_a_pair_are_counted(load):
    pairs = [{"prompt": f"Why {n}?", "chosen": "So.", "rejected": "No."} for n in range(40)]
    for worse in ({"rejected": "So."}, {"chosen": "word " * 100}, {"prompt": None}):
        pairs.append(pairs[0] | worse)
    statistics = load(pairs, "--max_length", "64", "--pair_tokens", "8", method="dpo").statistics
    assert (statistics.rows_read, sum(statistics.kept_rows.values())) == (43, 40)
    assert statistics.dropped_rows == {
        "chosen and rejected are the same": 1,
        "longer than --max_length": 1,
        "chosen and rejected without a prompt": 1,
    }


def test_a_run_without_a_verifiable_question_is_refused_with_the_reasons(load, row):
    with pytest.raises(RunRefusedError, match=r"No row is left for train(.|\n)*answer cannot be verified"):
        load([row(number, exercise="creative writing") for number in range(20)], method="grpo")


def test_pairs_and_questions_in_one_dataset_are_refused(load, row):
    pairs = [{"prompt": f"Why {n}?", "chosen": "So.", "rejected": "No."} for n in range(40)]
    with pytest.raises(ValueError, match="stand in one dataset: part them"):
        load([*pairs, *(row(number) for number in range(40))], method="dpo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"text": "x"}\n',
            "has no column query, synthetic_answer or messages or ",
        ),
        ('{"messages": []}\n{"messages": \n', "line 2 is no JSON"),
        ("[1]\n", "line 1 is no JSON object"),
        ("<!DOCTYPE html><html>", "is an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_rows_is_refused_by_its_place(load, tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(BadShardError, match=message):
        load(None)


def test_a_torn_parquet_file_is_refused(load, tmp_path):
    pq.write_table(pa.Table.from_pylist([chat(1)]), tmp_path / "rows.parquet")
    whole = (tmp_path / "rows.parquet").read_bytes()
    (tmp_path / "rows.parquet").write_bytes(whole[:-20])
    with pytest.raises(BadShardError, match=r"rows\.parquet is torn or damaged"):
        load(None, "--dataset", str(tmp_path / "rows.parquet"))


def test_a_run_without_rows_is_refused_with_the_reasons(load):
    with pytest.raises(RunRefusedError, match=r"No row is left for train(.|\n)*no assistant turn"):
        load([{"messages": []}] * 5)
    with pytest.raises(RunRefusedError, match="left for validation: raise --validation_fraction, or give more"):
        load([chat(1)] * 5, "--validation_fraction", "0.0001")
