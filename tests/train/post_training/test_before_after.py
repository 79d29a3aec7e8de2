"""The figures before and after, as a table and as results."""

from train.post_training.before_after import describe_change, render_change
from train.post_training.forgetting import ValidationSequences


def test_the_table_has_before_and_after_of_every_figure():
    mark = {"exercise": "mcq", "correct": 1, "asked": 4, "chance": 0.25, "well_formed": 2, "ended": 3}
    before = {"exam": [mark], "pretraining_loss": 2.0}
    after = {"exam": [{**mark, "correct": 2, "well_formed": 4, "ended": 4}], "pretraining_loss": 2.5}
    *_, marks, forgotten = render_change(before, after).splitlines()
    shares = [cell for cell in marks.split() if cell.endswith("%")]
    assert [shares[number] for number in (0, 1, 2, -4, -3, -2, -1)] == [
        *("25.0%", "25.0%", "50.0%", "50.0%", "100.0%", "75.0%", "100.0%")
    ]
    assert forgotten.startswith("validation loss of the pre-training: 2.0000 before, 2.5000 after (+0.5000 ")
    results = describe_change(before, after, ValidationSequences([], 7))
    assert results["forgetting"] == {"pretraining_loss_before": 2.0, "pretraining_loss": 2.5, "sequences": 7}
    assert (results["exam"][0]["correct"], results["exam_before"][0]["correct"]) == (2, 1)


def test_nothing_measured_is_nothing_shown():
    nothing = {"exam": [], "pretraining_loss": None}
    assert render_change(nothing, nothing) == ""
    assert describe_change(nothing, nothing, None)["forgetting"] is None
