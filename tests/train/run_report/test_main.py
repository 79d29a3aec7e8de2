"""`python -m train.run_report`, on runs in any state."""

import json
import logging

import pytest
from filelock import FileLock

from train.run_report.__main__ import main


@pytest.fixture
def page(caplog):
    """Run the command; returns the page, without the charts' library."""

    def make(folder):
        with caplog.at_level(logging.INFO):
            assert main([str(folder)]) == 0
        assert str(folder / "report.html") in caplog.text
        return (folder / "report.html").read_text(encoding="utf-8").partition("plotly.js v")[0]

    return make


def test_a_finished_run(run_folder, page):
    before = (run_folder / "report.html").read_text().partition("plotly.js v")[0]
    (run_folder / "report.html").unlink()
    assert page(run_folder).split("<body>")[1] == before.split("<body>")[1]


def test_a_run_that_is_older_than_the_report(run_folder, page):
    (run_folder / "report.json").unlink()
    found = page(run_folder)
    assert ">finished<" in found.replace("</span>finished", ">finished")
    assert "12 of 12" in found
    assert "<dt>command</dt><dd>not recorded</dd>" in found


def test_a_run_that_was_killed(live_folder, page):
    found = page(live_folder)
    assert "stopped after step 8" in found
    assert '"reload_seconds": null' in found


def test_a_run_that_trains(live_folder, page):
    with FileLock(live_folder / "run.lock"):
        found = page(live_folder)
    assert "8 of 12" in found
    assert '"reload_seconds": 30' in found


def test_damage_is_told_on_the_page_and_on_the_console(run_folder, page, caplog):
    (run_folder / "results.json").write_text("{")
    assert "results.json cannot be read" in page(run_folder)
    assert "run_report: results.json cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("results.json", {"data": 5}),
        ("results.json", {"exam": [1]}),
        ("recipe.yaml", {"hidden_lr_scale": [1], "embedding_lr_scale": "x"}),
        ("report.json", {"starts": "x"}),
        ("report.json", {"step": "x", "total_steps": "x", "log": [{"step": "x"}], "updated_at": "x"}),
        ("before.json", {"exam": [{"exercise": 1}]}),
        ("samples.jsonl", {"step": []}),
    ],
)
def test_a_file_of_another_form_is_named_and_left_out(run_folder, page, caplog, file, changes):
    place = run_folder / file
    for name in {"before.json": ["results.json", "report.json"]}.get(file, []):
        (run_folder / name).unlink()
    content = {} if file in ("before.json", "recipe.yaml", "samples.jsonl") else json.loads(place.read_text())
    place.write_text(json.dumps({**content, **changes}) + "\n")
    assert f"{file} holds something else than a run writes" in page(run_folder)
    assert f"run_report: {file} holds something else" in caplog.text


def test_a_log_of_another_form_is_no_log(run_folder, page):
    (run_folder / "report.json").unlink()
    for log in ("x", [1], [{"step": "x"}]):
        (run_folder / "trainer_state.json").write_text(json.dumps({"log_history": log, "max_steps": "x"}))
        assert "12 of 12" in page(run_folder)  # as its checkpoint says


def test_another_place_leaves_the_folder_as_it_is(run_folder, tmp_path):
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    assert main([str(run_folder), "--output", str(tmp_path / "page.html")]) == 0
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before
    assert (tmp_path / "page.html").stat().st_size > 10**6


def test_mistakes_are_told_in_a_line(tmp_path, run_folder, caplog):
    assert main([str(tmp_path / "nowhere")]) == 1
    assert main([str(run_folder), "--output", str(tmp_path / "no" / "folder.html")]) == 1
    assert "there is no such folder" in caplog.text
    assert "name a file, in a folder that is there" in caplog.text
    assert len(caplog.messages) == 2
