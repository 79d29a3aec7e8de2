"""Several datasets in one run: shares exact over an epoch, every sequence used, and a stopped run goes on as it was."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from tests.train.conftest import TINY_SETTINGS
from train.data.from_settings import to_preparations
from train.data.sequences.prepare import prepare_data
from train.data.sequences.prepared_sequences import (
    apportion,
    epoch_counts,
    interleaved,
    to_shares,
    validation_counts,
)
from train.data.sequences.streamed_sequences import MixedStreams, StreamedSequences
from train.data.sequences.training_data import load_prepared_data, load_streamed_data
from train.dry_run import describe_plan
from train.pretrain import main
from train.run_report.tables import data_tables
from train.settings.recipe import parse_recipe


@pytest.mark.parametrize(
    ("sizes", "weights", "multiple", "counts"),
    [
        ([70, 30], [0.7, 0.3], 1, [70, 30]),
        ([70, 30], [7, 3], 1, [70, 30]),  # weights need not add up to 1
        ([10, 30], [0.5, 0.5], 1, [30, 30]),  # the first begins again
        ([10, 30], [0.5, 0.5], 8, [32, 32]),  # whole batches, so that none of the 30 is left out
        ([10, 30], None, 1, [10, 30]),
        ([10, 30], None, 8, [10, 30]),
        ([11, 30], None, 8, [11, 29]),
        ([37], None, 8, [32]),
    ],
)
def test_an_epoch_holds_each_sequence_in_these_proportions(sizes, weights, multiple, counts):
    assert epoch_counts(sizes, weights, multiple) == counts


def test_an_epoch_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="7 training sequences do not fill one batch of 8"):
        epoch_counts([3, 4], None, 8)
    with pytest.raises(ValueError, match="7 training sequences do not fill one batch of 8"):
        epoch_counts([3, 4], [3, 4], 8)
    with pytest.raises(ValueError, match=r"--dataset_weights 0.999 0.001: .* passed over 9,990 times"):
        epoch_counts([10, 100], [0.999, 0.001], 1)


@pytest.mark.parametrize("counts", [[7], [70, 30], [1, 99], [50, 3, 20, 11], [0, 5]])
def test_the_datasets_are_spread_over_an_epoch(counts):
    found = [interleaved(position, counts) for position in range(sum(counts))]
    for part, count in enumerate(counts):
        assert [place for number, place in found if number == part] == list(range(count))
    for length in range(1, len(found)):  # any beginning has the proportions, but for a sequence of each other dataset
        begun = Counter(number for number, _ in found[:length])
        for part, count in enumerate(counts):
            assert abs(begun[part] - length * count / len(found)) < len(counts)


def test_validation_uses_no_sequence_twice_and_some_of_each_dataset():
    assert validation_counts([10, 20], None, None) == [10, 20]
    assert validation_counts([10, 20], None, 6) == [2, 4]
    assert validation_counts([10, 20], [0.5, 0.5], None) == [10, 10]
    assert validation_counts([10, 1000], [0.99, 0.01], None) == [10, 1]
    assert sum(apportion(1000, to_shares([0.1] * 7))) == 1000


@pytest.fixture
def words(tmp_path, rows_file):
    """Of a run on rows of SYNTH's columns and a text file."""
    (tmp_path / "book.txt").write_text("".join(f"Line {number} of a long book.\n" for number in range(3000)))
    settings = {
        **TINY_SETTINGS,
        "dataset": [str(rows_file), str(tmp_path / "book.txt")],
        "dataset_weights": [0.7, 0.3],
        "data_cache_dir": str(tmp_path / "cache"),
        "output_dir": str(tmp_path / "run"),
    }
    recipe = tmp_path / "mixture.yaml"
    recipe.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in settings.items()))
    return ["--config", str(recipe)]


@pytest.fixture
def load(words, tokenizer):
    def load(*more):
        data = parse_recipe([*words, *more]).data
        preparations = to_preparations(data, tokenizer)
        return load_prepared_data(
            preparations,
            data.dataset_weights,
            sequences_per_step=4,
            max_eval_sequences=data.max_eval_sequences,
            processes=1,
            writes=True,
        )

    return load


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_datasets_of_two_schemas_have_their_shares_and_lose_no_sequence(load, packing):
    data = load("--packing", packing)
    assert (data.schema, [one.row_filter.schema.name for one in data.preparations]) == ("mixed", ["synth", "text"])
    parts = [prepare_data(preparation) for preparation in data.preparations]
    used = Counter(data.train[number]["input_ids"].tobytes() for number in range(len(data.train)))
    counts = []
    for part in parts:
        own = {part.train[number]["input_ids"].tobytes() for number in range(len(part.train))}
        assert own <= used.keys()
        counts.append(sum(used[one] for one in own))
    assert len(data.train) % 4 == 0
    assert counts == apportion(len(data.train), to_shares([0.7, 0.3]))
    assert data.shares == [count / len(data.train) for count in counts]
    assert [round(passes * len(part.train)) for passes, part in zip(data.passes, parts, strict=True)] == counts
    assert min(data.passes) < 1.2
    assert len(data.validation) == 4


def test_weights_and_order_are_part_of_the_datas_name_and_a_part_alone_is_prepared_as_before(load, rows_file):
    names = [load().name, load("--dataset_weights", "0.5", "0.5").name, load("--dataset_weights").name]
    assert len({*names}) == 3
    assert load("--dataset_weights", "7", "3").name == names[0]
    alone = load("--dataset", str(rows_file), "--dataset_weights")
    assert alone.name == alone.statistics[0].sha256["train"]
    assert alone.preparations[0].folder == load().preparations[0].folder


def test_the_statistics_tell_each_dataset(load):
    data = load()
    record = json.loads(json.dumps(data.describe()))
    synth, text = record["datasets"]
    assert (synth["schema"], text["schema"], record["schema"]) == ("synth", "text", "mixed")
    assert (synth["rows_read"], synth["shared_articles"], text["shared_articles"]) == (200, 0, 0)
    assert [one["validation_sequences"] for one in record["datasets"]] == [3, 1]
    shown = data.render()
    assert "passes in an epoch" in shown
    assert "book.txt:\n" in shown
    tables = data_tables({"data": record})
    assert [table.title for table in tables if table.title] == [
        *("Rows: the mixture", "Rows of rows.jsonl", "Rows of book.txt"),
    ]
    assert [row[0] for row in tables[0].rows] == ["rows.jsonl", "book.txt"]


def test_a_dry_run_tells_the_parts(words, load, tokenizer):
    words = [*words, "--max_steps", "-1"]
    data = load()
    plan = describe_plan(parse_recipe(words), tokenizer)
    assert f"epochs x {len(data.train) // 4} (" in plan["steps"]
    assert f"{data.shares[0]:.1%}, {data.passes[0]:.3g} passes in an epoch" in plan["datasets"]
    streamed = describe_plan(parse_recipe([*words, "--streaming", "true", "--max_steps", "3"]), tokenizer)
    assert "book.txt 30.0%" in streamed["datasets"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dataset_weights", "1"], "--dataset_weights 1: give one for each dataset, 2 in all"),
        (["--dataset_weights", "1", "0"], "--dataset_weights 1 0: each must be above 0"),
        (["--dataset_weights", "1", "1e-9"], "none above 1,000,000 times another"),
        (["--dataset_weights", "1", "nan"], "--dataset_weights nan must be a finite number"),
        (["--dataset_revision", "main"], "--dataset_revision main: give one for each dataset, 2 in all"),
        (["--dataset", "sample", "sample"], "--dataset names sample twice"),
        (["--dataset"], "--dataset names no rows"),
        (["--dataset_weights", "--streaming", "true"], "--streaming of several datasets needs --dataset_weights"),
    ],
)
def test_a_mistake_is_told_in_one_line_before_the_data(words, more, said):
    with pytest.raises(ValueError, match=said) as refusal:
        parse_recipe([*words, *more])
    assert "\n" not in str(refusal.value)


def test_a_column_that_one_of_them_lacks_is_told_with_its_file(words, tokenizer):
    with pytest.raises(ValueError, match=r"book\.txt has no column language.* --languages"):
        to_preparations(parse_recipe([*words, "--languages", "en"]).data, tokenizer)


@pytest.fixture
def streams(words, tokenizer):
    def make(places=None):
        data = parse_recipe(words).data
        parts = [StreamedSequences(one, shuffle_buffer=20, seed=0) for one in to_preparations(data, tokenizer)]
        return MixedStreams(parts, data.dataset_weights, places=places or {})

    return make


def test_a_stream_takes_turns_by_weight_and_goes_on_from_any_place(streams):
    items = list(itertools.islice(streams().sequences_of(0), 500))
    assert items[-1]["place"].places[0].passes > 0
    for length in (10, 100, 500):
        assert abs(sum(item["dataset"] for item in items[:length]) - 0.3 * length) <= 1
    for stopped in (0, 77, 400):
        again = itertools.islice(streams({0: items[stopped]["place"]}).sequences_of(0), 40)
        for expected, found in zip(items[stopped + 1 :], again, strict=False):
            assert np.array_equal(found["input_ids"], expected["input_ids"])
            assert (found["place"], found["dataset"]) == (expected["place"], expected["dataset"])
            assert found["statistics"] == expected["statistics"]


def test_a_streams_validation_has_the_shares(streams):
    data = load_streamed_data(streams(), max_eval_sequences=10, processes=1, writes=True)
    assert [one["validation_sequences"] for one in data.describe()["datasets"]] == [7, 3]
    assert (data.shares, data.passes, data.schema) == ([0.7, 0.3], None, "mixed")


def test_a_validation_set_that_is_named_apart_is_that_of_all(words, load, tmp_path, row):
    text = "".join(f"Line {number} of a long book.\n" for number in range(3000, 6000))
    for name, part in {"a.txt": text[:26_000], "b.txt": text[26_000:52_000], "held.txt": text[52_000:]}.items():
        (tmp_path / name).write_text(part)
    sources = ("--dataset", str(tmp_path / "a.txt"), str(tmp_path / "b.txt"))
    data = load(*sources, "--validation_dataset", str(tmp_path / "held.txt"))
    assert data.validation.names == ["held.txt"]
    assert len(data.validation) == 4
    record = data.describe()
    assert record["validation_set"]["dataset"] == str(tmp_path / "held.txt")
    assert [one["validation_sequences"] for one in record["datasets"]] == [None, None]
    assert data_tables({"data": record})[0].notes == ["Validation rows: held.txt."]


@pytest.mark.slow
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(words, tmp_path, stop_after, log_by_step, streaming):
    words = [*words, "--streaming", streaming]
    assert main([*words, "--output_dir", str(tmp_path / "whole")]) == 0
    stop_after(5)
    assert main(words) == 128 + 15
    stop_after(None)
    assert main([*words, "--resume_from_checkpoint", "true"]) == 0
    assert log_by_step(tmp_path / "run") == log_by_step(tmp_path / "whole")
    results, whole = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "whole"))
    assert results["data"] == whole["data"]
    losses = [results["evaluation"][f"eval_loss_of_{name}"] for name in ("rows.jsonl", "book.txt")]
    counts = [one["validation_sequences"] for one in results["data"]["datasets"]]
    mean = np.average(losses, weights=counts)
    assert results["evaluation"]["eval_loss"] == pytest.approx(mean, rel=1e-6)
    assert [one["schema"] for one in results["data"]["datasets"]] == ["synth", "text"]
