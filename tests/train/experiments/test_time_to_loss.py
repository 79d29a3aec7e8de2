"""The comparison of two loss curves over time."""

import json
import subprocess
import sys

import pytest

from train.experiments import time_to_loss
from train.experiments.child_run import finish_run
from train.experiments.time_to_loss import (
    ARMS,
    CONTROL,
    RECIPE,
    compare,
    draw,
    main,
    mean_ratio,
    read_curve,
    render,
    seconds_to,
)
from train.settings.recipe import parse_recipe


CONTROL_ARM, RECIPE_ARM = ARMS


def test_seconds_count_steps_and_not_evaluations():
    history = [
        {"step": 1, "loss": 10.0, "tokens_seen": 100},
        {"step": 10, "loss": 9.0, "tokens_seen": 1000, "tokens_per_second": 90},
        {"step": 10, "eval_loss": 8.9, "eval_runtime": 1000.0},
        {"step": 20, "loss": 8.0, "tokens_seen": 2000, "tokens_per_second": 100},
        {"step": 20, "eval_loss": 7.9},
    ]
    assert read_curve(history) == [(10.0, 8.9), (20.0, 7.9)]


@pytest.mark.parametrize(("loss", "seconds"), [(5.0, 10.0), (4.5, 15.0), (4.0, 20.0), (3.9, None), (6.0, 10.0)])
def test_a_loss_is_reached_between_two_points(loss, seconds):
    assert seconds_to(loss, [(10.0, 5.0), (20.0, 4.0)]) == seconds


@pytest.fixture
def curves():
    control = {"1": [(50.0, 6.0), (100.0, 5.0)], "2": [(50.0, 6.0), (100.0, 4.0)]}
    return {CONTROL_ARM: control, RECIPE_ARM: {seed: [(20.0, 6.0), (40.0, 4.5)] for seed in "12"}}


def test_each_seed_is_compared_with_its_own_control(curves):
    first, second = compare(256, curves)
    assert first["recipe_seconds"] == pytest.approx(20 + 20 * 2 / 3)
    assert first["ratio"] == pytest.approx(1 / 3)
    assert second["ratio"] is None
    table = render([first, second])
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells == ["256", "1", "5.000", "1.7", "0.6", "0.33", "4.500", "0.7"]
    assert "never" in table
    assert "Ratio at width 256: the loss was not reached by all seeds" in table


def test_the_interval_of_ratios_is_students():
    """Of 0.4, 0.5 and 0.6: 0.5 with 4.303 x 0.1 / sqrt(3) to both sides."""
    assert mean_ratio([{"ratio": ratio} for ratio in (0.4, 0.5, 0.6)]) == "0.50, 95% interval 0.25 to 0.75 (3 seeds)"
    assert mean_ratio([{"ratio": 0.4}]) == "0.40 (one seed)"


def test_main_trains_both_arms_for_each_width_and_seed(curves, monkeypatch, tmp_path, capsys):
    trained = []

    def train_arm(arm, width, seed, data, run_folder):
        trained.append((arm, width, seed, *data))
        return curves[arm][str(seed)]

    out = tmp_path / "out"
    (out / "tokenizer").mkdir(parents=True)
    (out / "tokenizer" / "tokenizer.json").touch()  # it is not trained again
    data = ("--dataset", "rows", "--tokenizer", str(out / "tokenizer"))
    monkeypatch.setattr(time_to_loss, "train_arm", train_arm)
    words = ["--dataset", "rows", "--seeds", "1", "2", "--widths", "64", "128", "--jobs", "2", "--output_dir", str(out)]
    assert main(words) == 0
    assert sorted(trained) == sorted(
        (arm, width, seed, *data) for arm in ARMS for width in (64, 128) for seed in (1, 2)
    )
    assert len(json.loads((out / "time_to_loss.json").read_text())["comparison"]) == 4
    assert (out / "time_to_loss.png").exists()
    assert "Ratio at width 128" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--dataset", "rows", "--widths", "100", "--output_dir", str(out)])


def test_curves_that_never_cross_are_drawn_too(curves, tmp_path):
    draw(tmp_path / "curves.png", {256: curves})
    assert (tmp_path / "curves.png").exists()


def test_the_control_differs_from_the_recipe_in_what_is_named_only(tmp_path):
    words = [word for name, value in CONTROL.items() for word in (f"--{name}", value)]
    words = ["--config", str(RECIPE), "--output_dir", str(tmp_path), *words]
    control = parse_recipe(words).settings
    shipped = parse_recipe(["--config", str(RECIPE), "--output_dir", str(tmp_path)]).settings
    names = shipped.keys() | control.keys()  # either leaves out what is at its default
    assert {name for name in names if shipped.get(name) != control.get(name)} == CONTROL.keys()


@pytest.mark.slow
def test_an_arm_is_trained_by_the_training_script_once(rows_file, own_tokenizer, tmp_path, monkeypatch):
    short = {"max_steps": "24", "per_device_train_batch_size": "1", "sequence_length": "16", "n_layer": "1"}
    short |= {"validation_fraction": "0.1", "logging_steps": "1", "warmup_steps": "1", "bf16": "false"}
    monkeypatch.setitem(ARMS, RECIPE_ARM, {**short, "data_cache_dir": str(tmp_path / "cache")})
    data = ["--dataset", str(rows_file), "--tokenizer", str(own_tokenizer)]
    (tmp_path / "0" / "checkpoint-1").mkdir(parents=True)  # of a run that was killed
    curve = time_to_loss.train_arm(RECIPE_ARM, 64, 1, data, tmp_path / "0")
    assert len(curve) == time_to_loss.POINTS
    assert all(2 < loss < 12 for _, loss in curve)
    assert not (tmp_path / "0" / "checkpoint-1").exists()
    finished = (tmp_path / "0" / time_to_loss.ARGUMENTS_FILE).stat().st_mtime_ns
    assert time_to_loss.train_arm(RECIPE_ARM, 64, 1, data, tmp_path / "0") == curve
    assert (tmp_path / "0" / time_to_loss.ARGUMENTS_FILE).stat().st_mtime_ns == finished


def test_a_run_that_failed_is_told_with_its_last_words(tmp_path):
    (tmp_path / "console.txt").write_text("no such rows")
    failed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(RuntimeError, match=r"Training failed, see .*console.txt:\nno such rows"):
        finish_run(failed, tmp_path)
