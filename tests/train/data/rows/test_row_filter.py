import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from train.data.rows import decontamination
from train.data.rows.row_filter import RowFilter
from train.data.rows.synth import split_of
from train.settings.arguments import parse_weights


PASSAGE = "The river rises in the hills north of the old town and runs through fields of barley to the sea."


@pytest.fixture
def evaluation_sets(tmp_path):
    (tmp_path / "passage.txt").write_text(PASSAGE)
    return (str(tmp_path / "passage.txt"),)


@pytest.fixture
def rows_of_part(row):
    """Makes rows of one part, where one half is for validation."""

    def make(split, count, **changes):
        rows = (row(number, **changes) for number in itertools.count())
        return list(itertools.islice((one for one in rows if split_of(one, 0.5, 0) == split), count))

    return make


def test_a_usable_row_is_kept_once(rows_of_part):
    row_filter = RowFilter(validation_fraction=0.5)
    for split in ("train", "validation"):
        for one in rows_of_part(split, 3):
            assert row_filter.judge(one) == (None, split, 1)


@pytest.mark.parametrize("reasoning", [None, "", " \n\u200b", "None", "nan"])
def test_rows_without_reasoning_are_only_dropped_where_it_is_wanted(row, reasoning):
    one = row(0, synthetic_reasoning=reasoning)
    assert RowFilter().judge(one)[0] is None
    assert RowFilter(require_reasoning=True).judge(one)[0] == "no reasoning"
    assert RowFilter(require_reasoning=True).judge(row(0))[0] is None


def test_rows_that_link_to_both_parts_are_dropped(rows_of_part):
    (training,), (validation,) = rows_of_part("train", 1), rows_of_part("validation", 1)
    links = (f"https://article/{number}" for number in itertools.count())
    row_filter = RowFilter(validation_fraction=0.5)
    seen = set()
    for link in itertools.islice(links, 20):
        side = split_of({**training, "query_seed_url": link}, 0.5, 0)
        for one, own in ((training, "train"), (validation, "validation")):
            reason, split, _ = row_filter.judge({**one, "additional_seed_url": link})
            assert (reason, split) == ((None, own) if side == own else ("links to articles of both parts", "train"))
            seen.add(reason)
    assert len(seen) == 2


def test_the_first_reason_counts(rows_of_part, evaluation_sets):
    row_filter = RowFilter(
        languages=["en"],
        exercises=["memorization"],
        require_reasoning=True,
        exercise_weights={"memorization": 0},
        validation_fraction=0.5,
        evaluation_sets=evaluation_sets,
    )
    (one,) = rows_of_part("train", 1)
    (validation,) = rows_of_part("validation", 1)
    links = (f"https://article/{number}" for number in itertools.count())
    validation_link = next(link for link in links if split_of({**one, "query_seed_url": link}, 0.5, 0) == "validation")
    # From the last reason to the first: each row is worse than the one before.
    one["synthetic_answer"] = PASSAGE
    weighted = RowFilter(validation_fraction=0.5, evaluation_sets=evaluation_sets)
    assert weighted.judge(one) == ("contaminated", "train", 0)
    assert row_filter.judge(one) == ("weight", "train", 0)
    for changes, reason in (
        ({"additional_seed_url": validation_link}, "links to articles of both parts"),
        ({"synthetic_reasoning": None}, "no reasoning"),
        ({"constraints": "result:Failed after maximum attempts"}, "failed generation"),
        ({"query": None}, "no question"),
        ({"exercise": "rag"}, "other exercise"),
        ({"language": "fr"}, "other language"),
    ):
        one.update(changes)
        assert row_filter.judge(one)[0] == reason
    validation["synthetic_answer"] = PASSAGE
    assert row_filter.judge(validation) == (None, "validation", 1)


def test_contamination_is_looked_for_in_the_whole_text_of_training_rows(rows_of_part, evaluation_sets):
    row_filter = RowFilter(validation_fraction=0.5, evaluation_sets=evaluation_sets)
    for column in ("query", "synthetic_reasoning", "synthetic_answer"):
        (one,) = rows_of_part("train", 1, **{column: PASSAGE})
        assert row_filter.judge(one) == ("contaminated", "train", 0)
        (validation,) = rows_of_part("validation", 1, **{column: PASSAGE})
        assert row_filter.judge(validation) == (None, "validation", 1)
    (one,) = rows_of_part("train", 1, constraints=PASSAGE)  # which is not trained on
    assert row_filter.judge(one) == (None, "train", 1)


@pytest.mark.parametrize("weight", [0, 0.1, 0.5, 1, 1.75, 2, 3.4])
def test_rows_are_used_as_often_as_their_weight_says_on_average(row, weight):
    row_filter = RowFilter(exercise_weights={"memorization": weight})
    times = [row_filter.times(row(number)) for number in range(4000)]
    assert set(times) == {int(weight), int(weight) + (weight % 1 > 0)}
    # The share of those that are used once more is that of 4000 coins: five standard deviations are 0.04 at most.
    assert abs(sum(times) / 4000 - weight) <= 0.04 * (weight % 1 > 0)
    assert times == [row_filter.times(row(number)) for number in range(4000)]


def test_the_rows_of_a_smaller_weight_are_among_those_of_a_larger(row):
    rows = [row(number) for number in range(300)]
    few, many = ([RowFilter(language_weights={"en": weight}).times(one) for one in rows] for weight in (0.3, 0.6))
    assert 0 < sum(few) < sum(many) < 300
    assert all(one <= other for one, other in zip(few, many, strict=True))


def test_weights_of_exercise_and_language_multiply(row):
    row_filter = RowFilter(exercise_weights={"mcq": 3, "rag": 0}, language_weights={"fr": 2})
    for exercise, language, times in (
        ("mcq", "fr", 6),
        ("mcq", "en", 3),
        ("memorization", "fr", 2),
        ("memorization", "en", 1),
        ("rag", "fr", 0),
        (None, None, 1),
    ):
        assert row_filter.times(row(0, exercise=exercise, language=language)) == times


def test_rows_of_one_article_are_chosen_one_by_one(row):
    row_filter = RowFilter(exercise_weights={"memorization": 0.5})
    times = {row_filter.times(row(0, query=f"Question {number}?")) for number in range(30)}
    assert times == {0, 1}


def test_rows_are_chosen_by_their_number_of_tokens():
    row_filter = RowFilter(min_row_tokens=5, max_row_tokens=7)
    reasons = [row_filter.reason_by_length(tokens) for tokens in (4, 5, 7, 8)]
    assert reasons == ["too short", None, None, "too long"]
    assert [RowFilter().reason_by_length(tokens) for tokens in (1, 10**6)] == [None, None]


def test_weights_are_parsed():
    assert parse_weights("exercise_weights", ["rag=2", "mcq=0.5", "a=b=0", "(none)=100"]) == {
        "rag": 2.0,
        "mcq": 0.5,
        "a=b": 0.0,
        "(none)": 100.0,
    }
    assert parse_weights("exercise_weights", None) == parse_weights("exercise_weights", []) == {}


@pytest.mark.parametrize("word", ["rag", "rag=", "=2", "rag=-1", "rag=101", "rag=nan", "rag=inf", "rag=two", "2", ""])
def test_what_is_no_weight_is_refused(word):
    with pytest.raises(ValueError) as error:
        parse_weights("exercise_weights", ["mcq=1", word])
    assert str(error.value).startswith(f"--exercise_weights {word}: NAME=WEIGHT is wanted")


def test_an_evaluation_set_is_read_when_it_is_needed(tmp_path, row, evaluation_sets):
    lacking = RowFilter(evaluation_sets=(str(tmp_path / "nowhere.txt"),))
    assert lacking.judge(row(0, query=None))[0] == "no question"
    with pytest.raises(ValueError, match=r"--decontaminate .*nowhere\.txt"):
        lacking.judge(row(0))
    row_filter = RowFilter(evaluation_sets=evaluation_sets)
    assert row_filter.contamination is replace(row_filter, split_seed=1).contamination
    # A copy for another process has what was read.
    Path(*evaluation_sets).unlink()
    assert pickle.loads(pickle.dumps(row_filter)).contamination.found_in(PASSAGE)


def test_what_evaluation_sets_hold_is_in_the_fingerprint(tmp_path, evaluation_sets, monkeypatch):
    """Of files and tasks, whose names stay the same: rows that were compared with older content are prepared again."""
    documents = [{"text": f"{PASSAGE} It is long."}]
    task = SimpleNamespace(eval_docs=documents)
    tasks = {"my_task": SimpleNamespace(yaml_path=None)}
    manager = SimpleNamespace(
        task_index=tasks,
        load=lambda names: {"tasks": dict.fromkeys(names, task)},
    )
    monkeypatch.setattr(decontamination, "_task_manager", lambda folder: manager)

    def fingerprint():
        return RowFilter(evaluation_sets=(*evaluation_sets, "my_task")).fingerprint()

    first = fingerprint()
    assert fingerprint() == first != RowFilter(evaluation_sets=evaluation_sets).fingerprint()
    documents.append({"text": f"Another task says that {PASSAGE}"})
    second = fingerprint()
    Path(*evaluation_sets).write_text(f"{PASSAGE} A sentence more.")
    assert len({str(one) for one in (first, second, fingerprint())}) == 3
