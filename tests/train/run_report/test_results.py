import json
import re
import subprocess

from PIL import Image

from train.run_files import CURVE_FILE, RESULTS_FILE
from train.run_report.results import draw_loss_curve, git_commit, write_results


HISTORY = [
    {"step": 10, "loss": 9.0, "tokens_seen": 1000},
    {"step": 20, "loss": 6.0, "tokens_seen": 2000},
    {"step": 20, "eval_loss": 6.5},
    {"step": 20, "train_runtime": 1.0},
]


def test_results_carry_their_figures_and_versions(tmp_path):
    write_results(tmp_path, {"tokens_seen": 2000})
    results = json.loads((tmp_path / RESULTS_FILE).read_text())
    assert results["tokens_seen"] == 2000
    assert results["versions"].keys() == {"python", "torch", "transformers"}
    assert results["hardware"].keys() == {"device", "devices"}
    assert results["hardware"]["devices"] >= 1 and results["hardware"]["device"]


def test_the_commit_is_named_only_where_it_is_the_code_that_ran(tmp_path, monkeypatch):
    package = tmp_path / "train"
    package.mkdir()
    monkeypatch.setattr("train.run_report.results.__file__", str(package / "report.py"))
    assert git_commit() is None  # installed without its repository
    (package / "report.py").write_text("x = 1\n")
    (tmp_path / "model.py").write_text("x = 1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}", git_commit())
    monkeypatch.setattr("train.run_report.results.__file__", str(package / "other.py"))
    assert git_commit() is None  # installed inside somebody's checkout
    monkeypatch.setattr("train.run_report.results.__file__", str(package / "report.py"))
    (tmp_path / "model.py").write_text("x = 2\n")
    assert git_commit() is None  # changed, if only elsewhere


def test_the_picture_shows_both_curves(tmp_path):
    draw_loss_curve(tmp_path, HISTORY)
    colours = {pixel for _, pixel in Image.open(tmp_path / CURVE_FILE).convert("RGB").getcolors(maxcolors=1_000_000)}
    assert (255, 127, 14) in colours  # held out
    assert any(blue > 150 and red < 100 for red, _, blue in colours)  # training


def test_a_run_that_logged_nothing_still_gets_a_picture(tmp_path):
    draw_loss_curve(tmp_path, [])
    assert (tmp_path / CURVE_FILE).exists()
