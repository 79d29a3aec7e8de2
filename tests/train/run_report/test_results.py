import json

from PIL import Image

from train.run_files import CURVE_FILE, RESULTS_FILE
from train.run_report.results import draw_loss_curve, write_results


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


def test_the_picture_shows_both_curves(tmp_path):
    draw_loss_curve(tmp_path, HISTORY)
    colours = {pixel for _, pixel in Image.open(tmp_path / CURVE_FILE).convert("RGB").getcolors(maxcolors=1_000_000)}
    assert (255, 127, 14) in colours  # validation
    assert any(blue > 150 and red < 100 for red, _, blue in colours)  # training


def test_a_run_that_logged_nothing_still_gets_a_picture(tmp_path):
    draw_loss_curve(tmp_path, [])
    assert (tmp_path / CURVE_FILE).exists()
