"""The evaluation of a run goes into its card, as long as it is of the same weights."""

import dataclasses
import json
import re
import shutil

import pytest
from huggingface_hub import ModelCard

from hub_card.card.card import escape, render_card
from hub_card.staging import stage
from train.evaluation.__main__ import main
from train.run_report.run_record import read_run


TASK = {
    "task": "hellaswag",
    "metric": "acc_norm",
    "filter": "none",
    "part_of_group": False,
    "value": 0.3114,
    "stderr": 0.0046,
    "interval": [0.3024, 0.3204],
    "samples": 10042,
    "shots": 0,
    "gpt2_small": [
        {"value": 0.3114, "shots": 0, "source": "one table", "note": ""},
        {"value": 0.294, "shots": 10, "source": "another", "note": "other *texts*"},
    ],
}


@pytest.fixture(scope="module")
def evaluated_once(finished_run, tmp_path_factory):
    run = shutil.copytree(finished_run, tmp_path_factory.mktemp("evaluated") / "tiny")
    assert main([str(run), "--compare", str(run), "--max_questions", "20"]) == 0
    return run


@pytest.fixture
def evaluated_run(evaluated_once, tmp_path):
    """A copy of it, to change."""
    return shutil.copytree(evaluated_once, tmp_path / "tiny")


def test_losses_marks_and_comparison_stand_in_the_card(evaluated_run):
    record = read_run(evaluated_run)
    found = json.loads((evaluated_run / "evaluation.json").read_text())
    assert record.evaluation == found
    card = render_card(record, "you/tiny")
    text = re.sub(" +", " ", card)  # without the spaces that fill cells
    overall = found["validation"]["overall"]
    assert f"| all | {overall['rows']} | {overall['tokens']} | {overall['loss']:.3f} ±" in text
    assert "| language: fr |" in text
    low, high = found["exam"]["overall"]["exact_match_interval"]
    assert f"| {low:.1%} to {high:.1%} |" in text
    for test in found["comparisons"][0]["tests"]:
        if test["group"] == "overall":
            assert f"- {escape(test['sentence'])}" in text
    assert "![the evaluation, with its intervals](evaluation.png)" in text
    assert "lm-evaluation-harness: not recorded." in text
    metrics = {result.metric_type: result.metric_value for result in ModelCard(card).data.eval_results}
    assert metrics["bits_per_byte"] == overall["bits_per_byte"]


def test_tasks_stand_beside_what_was_published_with_its_source(evaluated_run):
    record = read_run(evaluated_run)
    record = dataclasses.replace(record, evaluation={**record.evaluation, "tasks": [TASK]})
    card = render_card(record, "you/tiny")
    text = re.sub(" +", " ", card)  # without the spaces that fill cells
    assert r"| hellaswag acc\_norm | 10,042 | 0 | 0.3114 ± 0.0090 | 0.3114 \[1\], 0.294 (10-shot) \[2\] |" in text
    assert r"- \[1\] one table" in text
    assert r"- \[2\] another (other \*texts\*)" in text
    (result,) = (result for result in ModelCard(card).data.eval_results if result.dataset_type == "hellaswag")
    assert (result.metric_type, result.metric_value, result.dataset_args) == ("acc_norm", 0.3114, {"num_few_shot": 0})


def test_an_evaluation_is_published_with_the_weights_that_it_is_of(evaluated_run, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    main_branch = stage(evaluated_run, place, "you/tiny", with_export=False)["main"]
    assert {"evaluation.json", "evaluation.png"} <= {file.name for file in main_branch.iterdir()}


def test_an_evaluation_of_other_weights_is_left_out_and_said(evaluated_run, tmp_path, caplog):
    file = evaluated_run / "evaluation.json"
    evaluation = json.loads(file.read_text())
    evaluation["model"]["weights_sha256"] = "0" * 64
    file.write_text(json.dumps(evaluation))
    place = tmp_path / "place"
    place.mkdir()
    main_branch = stage(evaluated_run, place, "you/tiny", with_export=False)["main"]
    assert not {"evaluation.json", "evaluation.png"} & {path.name for path in main_branch.iterdir()}
    assert "is of other weights" in caplog.text
    assert "bits per byte" not in (main_branch / "README.md").read_text()
