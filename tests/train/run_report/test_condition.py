import pytest

from train.run_report.condition import find_condition


@pytest.mark.parametrize("said", ["training", "evaluating"])
def test_a_run_that_holds_its_folder_goes_on(run_files, said):
    found = find_condition(run_files(record={"condition": said, "step": 5}, is_held=True))
    assert (found.name, found.is_live) == (said, True)


@pytest.mark.parametrize("said", ["training", "evaluating"])
def test_one_that_let_go_of_it_without_a_word_was_killed(run_files, said):
    found = find_condition(run_files(record={"condition": said, "step": 5}, log=[{"step": 4}], total_steps=9))
    assert (found.name, found.is_live) == ("interrupted", False)
    assert found.text == "ended without a word after step 5"


def test_results_of_the_last_step_are_an_end(run_files):
    record = {"condition": "evaluating", "step": 9}
    assert find_condition(run_files(record=record, results={"parameters": 1}, total_steps=9)).name == "finished"
    assert find_condition(run_files(record=record, results={"parameters": 1}, total_steps=10)).name == "interrupted"


@pytest.mark.parametrize("said", ["finished", "stopped", "failed"])
def test_what_a_run_says_of_its_end_holds(run_files, said):
    found = find_condition(run_files(record={"condition": said, "step": 5, "reason": "OSError: disk"}))
    assert (found.name, found.is_live) == (said, False)
    assert (found.detail == "OSError: disk") == (said == "failed")


@pytest.mark.parametrize(
    ("held", "results", "expected"), [(True, {}, "training"), (False, {"a": 1}, "finished"), (False, {}, "interrupted")]
)
def test_runs_that_are_older_than_the_report(run_files, held, results, expected):
    assert find_condition(run_files(is_held=held, results=results)).name == expected
