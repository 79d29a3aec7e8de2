"""The page by itself: complete, whole, and deaf to what the texts in it say."""

import json
import re
from pathlib import Path

import pytest

from train.run_report.page import render_page
from train.run_report.run_record import read_run


HOSTILE = (
    """</script><script>document.title = "owned"</script><img src=x onerror="document.title = 'owned'">"""
    """{{ 7 * 7 }} <!-- ' " &amp; \u2028"""
)


def hostile_run(run_files):
    """Every place where a run's own words reach the page."""
    return run_files(
        folder=Path(HOSTILE.replace("/", "\u2215")),
        record={"condition": "failed", "reason": HOSTILE, "starts": [{"step": 0, "environment": {HOSTILE: HOSTILE}}]},
        recipe={"dataset": HOSTILE, HOSTILE: HOSTILE, "sample_prompts": [HOSTILE], "embedding_lr_scale": 0.5},
        results={
            "exam": [{"exercise": HOSTILE, "correct": 1, "asked": 2, "chance": 0.5, "well_formed": 1}],
            "data": {
                "rows_read": 1,
                "kept_rows": {HOSTILE: 1},
                "dropped_rows": {HOSTILE: 1},
                "sha256": {HOSTILE: HOSTILE},
                "rows_by_exercise": {HOSTILE: 1},
                "rows_by_language": {"\ud800": 1},
                "skipped_shards": [HOSTILE],
            },
        },
        evaluation={
            "model": {"name": HOSTILE, "parameters": 1},
            "date": HOSTILE,
            "comparisons": [{"model": {"name": HOSTILE}, "tests": [], "notes": [HOSTILE]}],
        },
        log=[{"step": 1, "loss": 2.0}],
        samples=[{"step": 1, "question": HOSTILE, "text": HOSTILE}],
        damaged={"x": HOSTILE},
    )


def test_hostile_words_are_shown_and_make_no_element(run_files, parse):
    text, elements = parse(hostile_run(run_files))
    assert text.count('document.title = "owned"') >= 15
    assert "{{ 7 * 7 }}" in text
    tags = [tag for tag, _ in elements]
    assert "img" not in tags
    assert [attributes.get("type") for tag, attributes in elements if tag == "script"] == [
        "application/json",
        None,
        None,
    ]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]


def test_nothing_is_fetched(run_files, parse):
    _, elements = parse(hostile_run(run_files))
    links = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert links == ["data:,"]  # the icon, which browsers would look for elsewhere
    (policy,) = [value for _, attributes in elements if (value := attributes.get("content", "")).startswith("default")]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';")


def test_a_whole_run_is_on_the_page(finished_run, parse):
    text, _ = parse(read_run(finished_run))
    results = json.loads((finished_run / "results.json").read_text())
    for expected in (
        *("tiny finished", "steps 12 of 12", "tokens 1,536 of 1,536", "no answer", "per_device_train_batch_size"),
        *(
            f"{results['evaluation']['eval_loss']:.4f}",
            f"{results['parameters']:,}",
            results["data"]["sha256"]["train"],
        ),
        *("What follows 3?", "What follows 7?", results["versions"]["torch"], "Evaluation (python -m train.evaluation"),
    ):
        assert expected in text


def test_what_is_missing_is_said_to_be_missing(run_files, parse):
    text, _ = parse(run_files())
    for what in ("Exam", "Samples", "Data statistics", "Recipe"):
        assert f"{what}: not recorded" in text
    assert text.count("not recorded") >= 7 + 7  # of all tiles, of all charts
    assert "nan" not in text.lower()


def test_the_script_gets_numbers_that_it_can_read(run_files):
    log = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.5}, {"step": 3, "loss": float("inf")}]
    page = render_page(run_files(log=log))
    (block,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)

    def refuse(word):
        pytest.fail(f"{word} is no JSON")

    charts = {chart["name"]: chart for chart in json.loads(block, parse_constant=refuse)["charts"]}
    assert charts["loss"]["lines"][0]["y"] == [None, 1.5, None]
