import pytest

from train.run_report.run_record import read_run
from train.run_report.tables import (
    environment_rows,
    evaluation_notes,
    exam_marks,
    recipe_settings,
    samples_grid,
    show_setting,
)
from train.settings.recipe import parse_recipe


MARKS = {"exercise": "mcq", "correct": 1, "asked": 4, "chance": 0.25, "well_formed": 2, "ended": 3}


def test_the_exam_is_that_of_the_results_or_of_the_beginning(run_files):
    assert exam_marks(run_files()) is None
    assert exam_marks(run_files(exam_before=[MARKS])).header[3] == "exact match\nbefore"
    table = exam_marks(run_files(results={"exam": [MARKS]}))
    assert table.rows[0][:4] == ["mcq", "4", "25.0%", "25.0%"]
    assert "commonest answer" in table.notes[-1]


def test_an_evaluation_of_older_weights_says_so(run_files):
    evaluation = {"model": {"name": "demo", "parameters": 5}, "date": "2026-01-02T03:04:05+00:00"}
    assert evaluation_notes(run_files()) == []
    assert "other weights" in evaluation_notes(run_files(evaluation=evaluation, evaluation_fits=False))[-1]
    fitting = evaluation_notes(run_files(evaluation=evaluation, evaluation_fits=True))
    assert fitting[0] == "demo: 5 parameters, evaluated on 2026-01-02"
    assert "other weights" not in str(fitting)


def test_samples_stand_by_step_and_question(run_files):
    samples = [
        {"step": step, "question": question, "text": f"A: {step} {question}"}
        for step, question in ((5, "Who?"), (5, "Why?"), (10, "Who?"))
    ]
    questions, rows = samples_grid(run_files(samples=samples))
    assert questions == ["Who?", "Why?"]
    assert rows == [(10, [("A: ", "10 Who?"), ("", "")]), (5, [("A: ", "5 Who?"), ("A: ", "5 Why?")])]


def test_settings_that_differ_from_the_defaults_are_marked(finished_run):
    groups = recipe_settings(read_run(finished_run))
    assert list(groups) == ["model", "data", "optimizer", "run", "training"]
    settings = {name: (value, default) for group in groups.values() for name, value, default in group}
    assert settings["n_layer"][1] == "12"
    assert settings["sample_prompts"][1] == "unset"
    assert settings["dataset"][0] == ".../rows.jsonl"
    differing = {name for name, (_, default) in settings.items() if default is not None}
    assert differing == {
        *("n_layer", "n_head", "n_embd", "n_positions", "sequence_length", "validation_fraction", "dataset"),
        *("data_cache_dir", "exam", "exam_tokens", "sample_prompts", "sample_tokens", "cpu_threads", "output_dir"),
        *("per_device_train_batch_size", "max_steps", "logging_steps", "eval_steps", "save_steps", "learning_rate"),
        "dataloader_pin_memory",
    }


def test_no_default_of_the_recipe_counts_as_a_change(run_files, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.yaml").write_text("{}")
    recipe = parse_recipe(["--config", "empty.yaml"])
    groups = recipe_settings(run_files(recipe=recipe.settings))
    changed = [name for group in groups.values() for name, _, default in group if default is not None]
    assert changed == (["use_cpu"] if recipe.settings.get("use_cpu") else [])


def test_a_key_is_not_shown(run_files):
    (setting,) = recipe_settings(run_files(recipe={"hub_token": "hf_secret"}))["training"]
    assert setting[1] == "(hidden)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (6e-4, "0.0006"),
        (475.0, "475"),
        (True, "true"),
        (None, "unset"),
        (["a", 1.5], "a, 1.5"),
        ("/a/b/c.txt", ".../c.txt"),
    ],
)
def test_settings_are_shown_as_they_are_written(value, shown):
    assert show_setting(value) == shown


def test_the_environment_is_that_of_the_newest_start(run_files):
    starts = [{"step": 0, "environment": {"torch": "1"}}, {"step": 5, "environment": {"torch": "2", "CUDA": None}}]
    assert environment_rows(run_files(record={"starts": starts, "parameters": 1234})) == [
        ("parameters", "1,234"),
        ("torch", "2"),
    ]


def test_the_environment_of_an_older_run_is_what_its_results_say(run_files):
    hardware = {"device": "H100", "devices": 8, "of another version": None}
    results = {"hardware": hardware, "git_commit": None, "versions": {"torch": "2.13"}}
    assert environment_rows(run_files(results=results)) == [
        ("parameters", "not recorded"),
        ("command", "not recorded"),
        ("git commit", "not recorded"),
        ("hardware", "device: H100, devices: 8"),
        ("torch", "2.13"),
    ]


def test_energy_is_shown_where_it_was_measured(run_files):
    assert environment_rows(run_files(emissions={"energy_consumed": 0.012345}))[1] == (
        "energy, by codecarbon",
        "0.0123 kWh",
    )
