from train.evaluation.result_rows import describe_evaluation, evaluation_tables, exam_table


GROUP = {
    "rows": 39,
    "tokens": 1076,
    "loss": 2.21,
    "loss_interval": [1.88, 2.54],
    "perplexity": 9.117,
    "bits_per_byte": 1.0288,
    "bits_per_byte_interval": None,
    "answer_loss": 3.94,
    "answer_loss_interval": [3.84, 4.04],
}
LOSS_CELLS = ["39", "1,076", "2.210 ± 0.330", "9.12", "1.029", "3.940 ± 0.100"]
MARKS = {
    "exercise": "mcq, known",
    "correct": 23,
    "asked": 25,
    "chance": 0.04,
    "well_formed": 12,
    "ended": 25,
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
TASK = {
    "task": "piqa",
    "metric": "acc",
    "part_of_group": False,
    "value": 0.5,
    "interval": None,
    "samples": 10,
    "shots": 0,
    "gpt2_small": [],
}
EVALUATION = {
    "model": {"name": "demo", "parameters": 1000},
    "versions": {"lm_eval": "0.4"},
    "date": "2026-01-02T03:04:05+00:00",
    "validation": {
        "rows": "validation rows of the sample",
        "rows_used": 39,
        "rows_found": 50,
        "all_read": False,
        "overall": GROUP,
        "by_exercise": {"rag": GROUP, "mcq": GROUP},
        "by_language": {"en": GROUP},
    },
    "exam": {
        "questions": "the sample's exam",
        "asked": 25,
        "too_long": 3,
        "notes": ["Known: a note."],
        "overall": {**MARKS, "exercise": "all"},
        "by_exercise": [MARKS],
        "citations": {
            "answers": 24,
            **{f"{name}_share": 0.29 for name in ("exact", "citing", "precision", "recall")},
            "exact_interval": [0.1, 0.5],
            "true_quotes_share": None,
        },
    },
    "tasks": [
        {
            **TASK,
            "interval": [0.4, 0.6],
            "samples": 100,
            "shots": 5,
            "gpt2_small": [
                {"value": 0.6251, "shots": 0, "source": "a paper", "note": "other texts"},
                {"value": 0.63, "shots": 5, "source": "a table", "note": ""},
            ],
        },
        {**TASK, "task": "mine"},
        {**TASK, "task": "a part of mine", "part_of_group": True},
    ],
    "comparisons": [
        {
            "model": {"name": "run"},
            "tests": [TEST, {**TEST, "group": "exercise mcq", "better": None, "interval": None, "sentence": "No."}],
            "notes": ["Different context."],
        }
    ],
}


def test_each_part_has_its_table():
    losses, marks, citations, tasks, comparison = evaluation_tables(EVALUATION)
    assert losses.title == "Validation loss on 39 of the first 50 validation rows of the sample"
    assert losses.rows == [
        [name, *LOSS_CELLS] for name in ("all", "exercise: rag", "exercise: mcq")
    ]  # one language: it is all
    assert [row[0] for row in marks.rows] == ["all"]  # one exercise
    assert marks.rows[0][1:] == ["25", "4.0%", "92.0%", "75.0% to 97.8%", "48.0%", "100.0%"]
    assert marks.notes == ["3 questions leave no room in the context for an answer: wrong.", "Known: a note."]
    assert citations.rows[0] == ["the right sources and no others", "29.0%", "10.0% to 50.0%"]
    assert citations.rows[-1][1:] == ["none", ""]
    assert tasks.title == "Tasks of lm-evaluation-harness 0.4"
    assert tasks.rows == [
        ["piqa acc", "100", "5", "0.5000 ± 0.1000", "0.6251 (0-shot) [1], 0.63 [2]"],
        ["mine acc", "10", "0", "0.5000", "none found"],
    ]
    assert tasks.notes == ["[1] a paper (other texts)", "[2] a table"]
    assert comparison.title == "demo beside run"
    assert comparison.rows == [
        ["loss, overall", "39", "2.2100", "1.9200", "0.2900", "0.1867 to 0.3890", "0.0002", "other"],
        ["loss, exercise mcq", "39", "2.2100", "1.9200", "0.2900", "", "0.0002", "cannot be told"],
    ]
    assert comparison.notes == ["run is better.", "Different context."]


def test_all_rows_have_a_cell_for_each_title():
    for table in evaluation_tables(EVALUATION):
        assert all(len(row) == len(table.header) for row in table.rows)
        assert table.to_text().startswith(table.title)


def test_the_heading_names_model_date_and_what_is_older():
    assert describe_evaluation(EVALUATION) == "demo: 1,000 parameters, evaluated on 2026-01-02"
    kept = describe_evaluation({**EVALUATION, "kept_from": {"tasks": "2025-12-31T00:00:00+00:00"}})
    assert kept.endswith("Kept from an earlier evaluation of the same weights: tasks of 2025-12-31")


def test_parts_that_were_left_out_are_not_there():
    assert evaluation_tables({name: EVALUATION[name] for name in ("model", "date")}) == []
    assert evaluation_tables({}) == []


def test_the_exam_before_and_after():
    table = exam_table([MARKS], [{**MARKS, "correct": 0}, {**MARKS, "exercise": "rag", "asked": 50}])
    assert table.header[3:6] == ["exact match\nbefore", "exact match\nafter", "95%\ninterval"]
    assert [row[:6] for row in table.rows] == [
        ["mcq, known", "25", "4.0%", "0.0%", "92.0%", "75.0% to 97.8%"],
        ["rag", "50", "4.0%", "46.0%", "not recorded", ""],
    ]
    assert table.bars == [3, 4]


def test_texts_without_an_answer_are_told():
    table = exam_table([{**MARKS, "cut_in_reasoning": 2}, {**MARKS, "exercise": "rag"}])
    assert table.notes == ["Cut off inside their reasoning, and so without an answer: 2 (mcq, known)."]


def test_the_exam_as_far_as_it_was_taken():
    assert exam_table([]) is None
    assert exam_table([], [MARKS]).header[3:] == [
        *("exact match\nbefore", "well formed\nbefore", "ended by itself\nbefore")
    ]
    assert exam_table([MARKS]).header[3:] == ["exact match", "95%\ninterval", "well formed", "ended by itself"]
    old = exam_table([{"exercise": "mcq", "correct": 1, "asked": 2}])  # results.json of an old run
    assert old.rows[0][2:4] == ["not recorded", "50.0%"]
    assert old.rows[0][5:] == ["not recorded", "not recorded"]
