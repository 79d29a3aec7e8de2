import pytest

from train.run_report.evaluation_tables import evaluation_sections


GROUP = {
    "rows": 39,
    "tokens": 1076,
    "loss": 2.21,
    "loss_interval": [1.88, 2.54],
    "perplexity": 9.117,
    "bits_per_byte": 1.0288,
    "bits_per_byte_interval": None,
    "answer_loss": 3.94,
}
LOSS_CELLS = ["39", "1,076", "2.2100", "1.8800 to 2.5400", "9.12", "1.0288", "", "3.9400"]
MARKS = {
    "exercise": "mcq, known",
    "asked": 25,
    "chance": 0.04,
    "exact_match": 0.92,
    "exact_match_interval": [0.75, 0.978],
    "well_formed_share": 0.5,
    "ended_share": 1.0,
}
TEST = {
    "measure": "loss",
    "group": "overall",
    "n": 39,
    "this": 2.21,
    "other": 1.92,
    "difference": 0.29,
    "interval": [0.1867, 0.389],
    "p": 1e-4,
    "adjusted_p": 2e-4,
    "better": "other",
    "sentence": "run is better.",
}
EVALUATION = {
    "model": {"name": "demo"},
    "date": "2026-01-02T03:04:05+00:00",
    "validation": {
        "rows": "validation rows of the sample",
        "rows_used": 39,
        "rows_found": 50,
        "notes": ["Mind the gap."],
        "overall": GROUP,
        "by_exercise": {"rag": GROUP},
        "by_language": {"en": GROUP},
    },
    "exam": {
        "questions": "the sample's exam",
        "overall": {**MARKS, "exercise": "all"},
        "by_exercise": [MARKS],
        "citations": {"answers": 24, "exact_share": 0.29, "exact_interval": [0.1, 0.5], "true_quotes_share": None},
    },
    "tasks": [
        {
            "task": "piqa",
            "metric": "acc",
            "value": 0.5,
            "interval": [0.4, 0.6],
            "samples": 100,
            "shots": 0,
            "gpt2_small": [{"value": 0.6251, "shots": 0, "source": "a paper"}],
        },
        {"task": "mine", "metric": "acc", "value": 0.5, "interval": None, "samples": 10, "shots": 0, "gpt2_small": []},
    ],
    "comparisons": [
        {
            "model": {"name": "run"},
            "tests": [TEST, {**TEST, "group": "exercise mcq", "better": None, "interval": None, "sentence": "No."}],
            "notes": ["Different context."],
        }
    ],
}


@pytest.fixture
def sections(run_files):
    def make(evaluation=EVALUATION, fits=True):
        return evaluation_sections(run_files(evaluation=evaluation, evaluation_fits=fits))

    return make


def test_each_part_has_its_tables(sections):
    about, validation, exam, tasks, comparison = sections()
    assert about.title == "demo, 2026-01-02 03:04:05+00:00"
    assert validation.title == "Validation rows: 39 of 50"
    assert [row for table in validation.tables for row in table.rows] == [
        [name, *LOSS_CELLS] for name in ("all", "rag", "en")
    ]
    assert validation.notes == ["validation rows of the sample", "Mind the gap."]
    marks, citations = exam.tables
    assert marks.rows[1] == ["mcq, known", "25", "4.0%", "92.0%", "75.0% to 97.8%", "50.0%", "100.0%"]
    assert citations.rows[0] == ["the right sources and no others", "29.0%", "10.0% to 50.0%"]
    assert citations.rows[-1][1:] == ["none", ""]
    assert [row[-1] for row in tasks.tables[0].rows] == ["0.6251 (0 shots)", "none at hand"]
    assert comparison.title == "Beside run"
    assert comparison.tables[0].rows == [
        ["loss, overall", "2.2100", "1.9200", "0.2900", "0.1867 to 0.3890", "0.0002", "the other"],
        ["loss, exercise mcq", "2.2100", "1.9200", "0.2900", "", "0.0002", "cannot be told"],
    ]
    assert comparison.notes == ["run is better.", "Different context."]


def test_all_rows_have_a_cell_for_each_title(sections):
    for section in sections():
        for table in section.tables:
            assert all(len(row) == len(table.header) for row in table.rows)


def test_an_evaluation_of_older_weights_says_so(sections):
    assert "Of other weights" in sections(fits=False)[0].notes[-1]
    assert "Of other weights" not in str(sections(fits=True)[0].notes)


def test_parts_that_were_left_out_are_not_there(sections):
    only_model = {name: EVALUATION[name] for name in ("model", "date")}
    assert len(sections(only_model)) == 1
    assert sections({}) == []
