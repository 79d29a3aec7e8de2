import json

import pytest
from filelock import FileLock

from train.run_report.run_record import find_run, read_run


def log_to(step):
    return [{"step": number, "loss": 9.0 - number} for number in range(1, step + 1)]


@pytest.mark.parametrize(("recorded", "at_end", "in_checkpoint"), [(3, 2, 1), (1, 3, 2), (1, None, 3), (None, None, 3)])
def test_the_log_is_the_one_that_goes_furthest(tmp_path, recorded, at_end, in_checkpoint):
    (tmp_path / "checkpoint-1").mkdir()
    for place, step, key in (
        ("report.json", recorded, "log"),
        ("trainer_state.json", at_end, "log_history"),
        ("checkpoint-1/trainer_state.json", in_checkpoint, "log_history"),
    ):
        if step is not None:
            (tmp_path / place).write_text(json.dumps({key: log_to(step)}))
    assert read_run(tmp_path).log == log_to(3)


def test_while_a_run_trains_its_own_record_counts(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps({"log": log_to(2)}))
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": log_to(9)}))
    (tmp_path / "results.json").write_text(json.dumps({"parameters": 1}))
    with FileLock(tmp_path / "run.lock"):
        run = read_run(tmp_path)
    assert (run.is_held, run.log, run.results) == (True, log_to(2), {})
    assert read_run(tmp_path).log == log_to(9)


def test_damaged_files_are_named_and_the_others_read(run_folder):
    (run_folder / "results.json").write_text('{"parameters": 1')
    (run_folder / "before.json").write_text("[]")
    (run_folder / "recipe.yaml").write_text("a: [")
    (run_folder / "evaluation.json").write_text("[]")
    run = read_run(run_folder)
    assert list(run.damaged) == [*("evaluation.json", "results.json", "recipe.yaml", "before.json")]
    assert (run.results, run.recipe, run.evaluation) == ({}, {}, {})
    assert run.log[-1]["step"] == 12


def test_samples_may_hold_any_character_and_the_last_may_be_cut_off(tmp_path):
    texts = ["one\u2028two\u0085three", "\x1c", '"}\n{"']
    lines = [json.dumps({"step": 1, "question": "?", "text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "samples.jsonl").write_text("\n".join(lines) + '\n{"step": 2, "ques')
    run = read_run(tmp_path)
    assert [sample["text"] for sample in run.samples] == texts
    assert not run.damaged


@pytest.mark.parametrize("written", ["", '{"step": 1'])
def test_samples_without_a_whole_line_are_none(tmp_path, written):
    (tmp_path / "samples.jsonl").write_text(written)
    assert read_run(tmp_path).samples == []


def test_what_is_no_run_folder_is_refused(tmp_path, finished_run):
    for name, message in (
        (tmp_path / "nowhere", "there is no such folder"),
        (tmp_path, r"holds no run: there is no recipe.yaml in it"),
        (finished_run / "checkpoint-12", r"is a checkpoint: name the run's own folder, tiny\."),
    ):
        with pytest.raises(ValueError, match=message):
            find_run(name)
    assert find_run(finished_run) == finished_run


@pytest.mark.parametrize("said", ["finished", "stopped", "failed"])
def test_what_a_run_says_of_its_end_holds(run_files, said):
    assert run_files(record={"condition": said}).condition == said


def test_a_run_that_holds_its_folder_is_running(run_files):
    assert run_files(record={"condition": "running"}, is_held=True).condition == "running"
    assert run_files(is_held=True).condition == "running"


def test_a_run_that_let_go_of_its_folder_has_ended(run_files):
    record = {"condition": "running", "step": 9}
    assert run_files(record=record, total_steps=9).condition == "stopped"
    assert run_files(record=record, results={"parameters": 1}, total_steps=10).condition == "stopped"
    assert run_files(record=record, results={"parameters": 1}, total_steps=9).condition == "finished"
    assert run_files(results={"parameters": 1}).condition == "finished"  # older than the report
    assert run_files().condition == "stopped"


def test_energy_is_that_of_all_starts(tmp_path):
    assert read_run(tmp_path).emissions == {}
    (tmp_path / "emissions.csv").write_text("run_id,energy_consumed,country\na,0.25,x\nb,0.5,x\n")
    assert read_run(tmp_path).emissions["energy_consumed"] == 0.75


def test_results_of_other_weights_are_said_to_be(tmp_path, finished_run):
    (tmp_path / "results.json").write_text(json.dumps({"weights_sha256": "of others"}))
    assert read_run(tmp_path).damaged == {}  # there are no weights beside it
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert read_run(tmp_path).damaged == {
        "results.json": "results.json is of other weights than those in the folder now."
    }
    assert read_run(finished_run).damaged == {}
