import pytest

from train.run_report.figures import describe_progress, make_charts, make_tiles


LOG = [
    {"step": 2, "loss": 9.0, "learning_rate": 0.1, "tokens_seen": 200, "grad_norm": 3.0, "tokens_per_second": 10},
    {"step": 2, "eval_loss": 8.0, "eval_perplexity": 2981.0},
    {"step": 4, "loss": None, "learning_rate": 0.2, "tokens_seen": 400, "grad_norm": float("inf"), "mfu": 0.25},
    {"step": 6, "loss": 6.0, "learning_rate": 0.3, "tokens_seen": 600, "grad_norm": 1.0, "tokens_per_second": 30},
    {"step": 6, "eval_loss": 8.5, "eval_perplexity": 4914.8, "eta_seconds": 75, "elapsed_seconds": 3700.0},
]


@pytest.fixture
def charts(run_files):
    def make(**given):
        return {chart["name"]: chart for chart in make_charts(run_files(**{"log": LOG, **given}))["charts"]}

    return make


def test_progress_is_told_as_far_as_it_is_known(run_files):
    progress = describe_progress(run_files(log=LOG, total_steps=12))
    assert progress == {"steps": "6 of 12", "tokens": "600 of 1,200", "elapsed": "1 h 1 min", "to go": "1 min 15 s"}
    unknown = describe_progress(run_files())
    assert list(unknown.values()) == ["0", "not recorded", "not recorded", "not recorded"]


def test_the_record_can_be_ahead_of_the_log(run_files):
    assert describe_progress(run_files(log=LOG, record={"step": 9}, total_steps=12))["steps"] == "9 of 12"


def test_tiles_show_the_latest_and_what_is_missing(run_files):
    tiles = {label: (value, remark) for label, value, remark in make_tiles(run_files(log=LOG))}
    assert tiles["training loss"][0] == "6.0000"
    assert tiles["validation loss"] == ("8.5000", "best 8.0000")
    assert tiles["tokens per second"] == ("30", "median 20")
    assert tiles["MFU"][0] == "25.0%"
    assert tiles["memory"] == ("not recorded", "")


def test_validation_points_lie_at_their_tokens(charts):
    training, validation = charts()["loss"]["lines"]
    assert (training["x"], training["steps"]) == ([200, 400, 600], [2, 4, 6])
    assert (validation["x"], validation["y"]) == ([200, 600], [8.0, 8.5])


def test_what_is_not_finite_is_a_gap(charts):
    assert charts()["loss"]["lines"][0]["y"] == [9.0, None, 6.0]
    assert charts()["norm"]["lines"][0]["y"] == [3.0, None, 1.0]


def test_a_log_without_tokens_is_drawn_over_steps(charts):
    (line,) = charts(log=[{"step": 3, "loss": 2.0}])["loss"]["lines"]
    assert (line["x"], line["y"]) == ([3], [2.0])


def test_a_chart_without_points_is_empty(charts):
    assert charts()["memory"]["lines"] == []
    assert all(chart["lines"] == [] for chart in charts(log=[]).values())


def test_each_learning_rate_has_a_line(charts):
    (one,) = charts()["rate"]["lines"]
    assert (one["name"], one["y"]) == ("", [0.1, 0.2, 0.3])
    lines = charts(recipe={"embedding_lr_scale": 1.0, "hidden_lr_scale": 0.5})["rate"]["lines"]
    assert [line["name"] for line in lines] == ["norms and biases and embeddings", "blocks' matrices"]
    assert lines[1]["y"] == pytest.approx([0.05, 0.1, 0.15])
    assert len(charts(recipe={"embedding_lr_scale": 2.0, "hidden_lr_scale": 0.5})["rate"]["lines"]) == 3


def test_the_limit_of_the_gradient_norm_is_marked(charts):
    assert charts(recipe={"max_grad_norm": 1.0})["norm"]["level"] == (1.0, "clipped above")
    assert charts(recipe={"max_grad_norm": 0.0})["norm"]["level"] is None
