"""The card says what the run's files say, and names what they do not."""

import dataclasses
import json
import re

import pytest
from huggingface_hub import ModelCard

from hub_card.card.card import escape, fence, render_card, render_export_card, show_seconds
from train.evaluation.statistics import share_interval
from train.run_report.run_record import read_run


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def record(finished_run):
    return read_run(finished_run)


def with_results(record, **changes):
    return dataclasses.replace(record, results={**record.results, **changes})


def line_of(card: str, start: str) -> str:
    """The one line that starts so, without the spaces that fill its cells."""
    lines = [re.sub(" +", " ", line) for line in card.splitlines()]
    (line,) = (line for line in lines if line.startswith(start))
    return line


def test_the_metadata_parses_again_with_all_figures(record, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(render_card(record, "you/tiny"))
    metadata = ModelCard.load(file).data
    assert metadata.license == "mit"
    assert metadata.library_name == "transformers"
    assert metadata.pipeline_tag == "text-generation"
    assert metadata.language == ["en", "fr"]
    assert metadata.datasets is None  # a local file is not on the Hub
    assert metadata.model_name == "tiny"
    validation = {
        result.metric_type: result.metric_value for result in metadata.eval_results if not result.dataset_config
    }
    assert validation["loss"] == record.results["evaluation"]["eval_loss"]
    assert validation["perplexity"] == record.results["evaluation"]["eval_perplexity"]
    exam = {result.dataset_config: result.metric_value for result in metadata.eval_results if result.dataset_config}
    assert exam == {mark["exercise"]: mark["correct"] / mark["asked"] for mark in record.results["exam"]}
    assert set(exam) == {"memorization, known", "memorization, new"}


def test_figures_stand_in_the_text(record):
    card = render_card(record, "you/tiny")
    results = record.results
    assert line_of(card, "| parameters") == f"| parameters | {results['parameters']:,} |"
    assert line_of(card, "| tokens seen") == "| tokens seen | 512 |"
    assert line_of(card, "| loss, nats") == f"| loss, nats per token | {results['evaluation']['eval_loss']:.4f} |"
    assert line_of(card, "| read") == f"| read | 60 | | {results['data']['characters_read']:,} |"
    assert line_of(card, "| fr").startswith("| fr | 15 | 15 |")
    known = next(mark for mark in results["exam"] if mark["exercise"] == "memorization, known")
    low, high = share_interval(known["correct"], known["asked"])
    assert line_of(card, "| memorization, known").find(f"| {low:.1%} to {high:.1%} |") > 0
    assert line_of(card, r"| n\_embd") == r"| n\_embd | 16 |"
    assert "![training and validation loss over tokens](loss_curve.png)" in card
    assert f"Q: What follows 3?\n\n{record.samples[-1]['text']}\n```" in card
    assert card.count("Q: What follows 3?\n") == 1  # of the last step only
    assert f"torch: {results['versions']['torch']}" in card
    assert "accelerate launch -q train/pretrain.py --config recipe.yaml --output_dir runs/tiny" in card


def test_a_missing_figure_shows_as_missing(record, tmp_path):
    bare = dataclasses.replace(
        record,
        results={},
        samples=[],
        config={},
        recipe={},
        final_log=[],
        folder=tmp_path,
    )
    card = render_card(bare, "you/tiny")
    for start in (
        "parameters",
        "layers",
        "tokens seen",
        "training time",
        "hardware",
        "loss, nats",
        "perplexity",
        "tokens per second",
    ):
        assert line_of(card, f"| {start}").endswith("| not recorded |"), start
    for missing in ("Loss curve: ", "Samples: ", "Versions: ", "Commit of the code: "):
        assert f"{missing}not recorded." in card, missing
    assert "Known" not in card  # no words on an exam that was not held
    assert ModelCard(card).data.eval_results is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "10.7", True])
def test_what_is_not_a_finite_number_is_missing(record, value):
    card = render_card(with_results(record, evaluation={"eval_loss": value}), "you/tiny")
    assert line_of(card, "| loss, nats").endswith("| not recorded |")
    assert "loss" not in ModelCard(card).data.metrics


def test_energy_is_that_of_codecarbon(run):
    (run / "emissions.csv").write_text(
        "timestamp,run_id,duration,emissions,energy_consumed,country_name\n"
        "2026-01-01,one,60,0.02,0.05,France\n"
        "2026-01-03,two,9,0.01,0.025,France\n"
    )
    card = render_card(read_run(run), "you/tiny")
    assert line_of(card, "| energy by codecarbon") == "| energy by codecarbon, kWh | 0.075 |"
    assert line_of(card, "| emissions by codecarbon").endswith("| 0.03 |")
    emissions = {"emissions": 30.0, "source": "codecarbon", "training_type": "pre-training"}
    assert ModelCard(card).data.co2_eq_emissions == emissions


def test_without_codecarbon_no_energy_is_told(record):
    old = {"device": "an accelerator", "devices": 2, "watts_per_device": None}
    card = render_card(with_results(record, hardware=old), "you/tiny")
    assert line_of(card, "| energy").endswith("| not recorded |")
    assert line_of(card, "| hardware").endswith("| device: an accelerator, devices: 2 |")
    assert "co2_eq_emissions" not in card


def test_a_hub_dataset_is_named_with_its_commit(record):
    data = {**record.data, "dataset": "PleIAs/SYNTH", "dataset_revision": COMMIT}
    card = render_card(with_results(record, data=data, git_commit="abc1234"), "you/tiny")
    metadata = ModelCard(card).data
    assert metadata.datasets == ["PleIAs/SYNTH"]
    assert metadata.eval_results[0].dataset_type == "PleIAs/SYNTH"
    assert metadata.eval_results[0].dataset_revision == COMMIT
    assert f"revision `{COMMIT}`" in card
    assert card.count("abc1234") == 2
    assert f"--dataset_revision {COMMIT}" in card


def test_a_validation_set_named_apart_is_what_the_figures_are_of(record):
    apart = {"dataset": "/data/mine/held.jsonl", "dataset_revision": None, "dataset_split": "train"}
    card = render_card(with_results(record, data={**record.data, "validation_set": apart}), "you/tiny")
    assert ModelCard(card).data.eval_results[0].dataset_type == "held.jsonl"
    assert "On the rows of held.jsonl, split train; no training row has a seed article or text of theirs:" in card
    assert "/data/mine" not in card


def test_of_several_datasets_each_is_named(record):
    hub = {**record.data, "dataset": "PleIAs/SYNTH", "dataset_revision": COMMIT, "dataset_config": "en", "share": 0.7}
    parts = [hub, {**record.data, "dataset": "/data/mine/book.txt", "share": 0.3}]
    for part in parts:
        part |= {"passes_in_epoch": 1.25, "validation_sequences": 2}
    card = render_card(with_results(record, data={"schema": "mixed", "datasets": parts}), "you/tiny")
    assert ModelCard(card).data.datasets == ["PleIAs/SYNTH"]
    assert ModelCard(card).data.language == record.languages
    assert f"), configuration en, revision `{COMMIT}`" in card
    assert "Rows of book.txt, which are not on the Hub" in card
    assert "/data/mine" not in card
    assert f"--dataset PleIAs/SYNTH YOUR_COPY_OF_THE_ROWS --dataset_revision {COMMIT} main" in card
    assert line_of(card, "| book.txt | 30.00% | 1.25")
    assert "Q: question" in card


def test_no_local_path_is_told(record, finished_run):
    assert str(finished_run.parent) in json.dumps(record.recipe)
    assert str(finished_run.parent) not in render_card(record, "you/tiny")


def test_the_export_branch_is_named_only_where_there_is_one(record):
    assert 'revision="gpt2"' in render_card(record, "you/tiny")
    assert 'revision="gpt2"' not in render_card(record, "you/tiny", with_export=False)
    export = ModelCard(render_export_card(record, "you/tiny", has_graphs=True))
    assert export.data.license == "mit"
    assert export.data.eval_results is None


def test_marks_in_data_stay_text():
    assert fence("a ``` b") == "````text\na ``` b\n````"
    assert escape("a|b\n<c> *d*") == r"a\|b &lt;c> \*d\*"


def test_durations():
    assert show_seconds(269.4) == "0:04:29"
    assert show_seconds(7322) == "2:02:02"


def test_a_post_training_is_called_that(record):
    forgetting = {"pretraining_loss_before": 2.0, "pretraining_loss": 2.25, "sequences": 64}
    tuned = with_results(record, forgetting=forgetting)
    tuned = dataclasses.replace(tuned, recipe={**record.recipe, "method": "sft", "init_from": "runs/demo"})
    card = render_card(tuned, "you/tuned")
    assert "post-trained (sft) from the weights of demo" in card
    assert "accelerate launch -q train/finetune.py --config recipe.yaml" in card
    assert "64 validation sequences of the pre-training, to see what was forgotten: 2.0000 before, 2.2500 after" in card
    assert ModelCard(card).data.tags == ["gpt2", "gpt2scratch", "sft"]
    assert "held out, to see" not in render_card(record, "you/tiny")
