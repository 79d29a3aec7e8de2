"""The command as users call it, on tiny models."""

import json
import math
import shutil

import pytest
from PIL import Image

from modeling_gpt2scratch import GPT2ScratchForCausalLM
from tests.train.forked_run import ForkedRun
from train.evaluation import statistics
from train.evaluation.__main__ import main
from train.evaluation.picture import draw_evaluation
from train.evaluation.record import is_of_weights, read_evaluation


@pytest.fixture(autouse=True)
def fewer_permutations(monkeypatch):
    monkeypatch.setattr(statistics, "PERMUTATIONS", 999)


@pytest.fixture
def other_run(run_folder, tmp_path):
    """The same model with other weights in the last layer norm: worse or better, but another."""
    folder = tmp_path / "other"
    shutil.copytree(run_folder, folder)
    model = GPT2ScratchForCausalLM.from_pretrained(folder)
    model.transformer.final_norm.weight.data *= 0.2  # flatter predictions, which for random ones are better
    model.save_pretrained(folder)
    return folder


def all_values(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from all_values(item)
    elif isinstance(value, list):
        for item in value:
            yield from all_values(item)
    else:
        yield value


def test_a_run_is_evaluated_into_its_folder(run_folder, capsys):
    assert main([str(run_folder)]) == 0
    output = capsys.readouterr().out
    evaluation = read_evaluation(run_folder)
    validation, exam = evaluation["validation"], evaluation["exam"]
    assert is_of_weights(evaluation["model"]["weights_sha256"], run_folder)
    assert evaluation["model"]["window_tokens"] == 32
    assert {"date", "settings", "versions", "hardware", "git_commit"} <= evaluation.keys()
    assert "comparisons" not in evaluation
    assert "tasks" not in evaluation
    assert validation["rows_used"] == validation["rows_found"] == validation["overall"]["rows"]
    for kind in ("by_exercise", "by_language"):
        assert sum(one["rows"] for one in validation[kind].values()) == validation["rows_used"]
        assert sum(one["tokens"] for one in validation[kind].values()) == validation["overall"]["tokens"]
    assert exam["overall"]["asked"] == exam["asked"] == sum(one["asked"] for one in exam["by_exercise"])
    assert {one["exercise"] for one in exam["by_exercise"]} == {"editing, new", "mcq, new"}
    assert exam["citations"] is None
    assert f"{validation['overall']['loss']:.3f}" in output
    assert "exact match" in output
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in all_values(evaluation))
    assert not any(isinstance(value, str) and str(run_folder.parent) in value for value in all_values(evaluation))
    with Image.open(run_folder / "evaluation.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(2**20)) > 10


def test_two_runs_are_compared_on_the_same_rows_and_questions(run_folder, other_run, tmp_path, capsys):
    assert main([str(run_folder), "--compare", str(other_run), "--output_dir", str(tmp_path / "both")]) == 0
    evaluation = read_evaluation(tmp_path / "both")
    assert not (run_folder / "evaluation.json").exists()
    (comparison,) = evaluation["comparisons"]
    tests = {(test["measure"], test["group"]): test for test in comparison["tests"]}
    loss = tests["loss", "overall"]
    assert loss["this"] == pytest.approx(evaluation["validation"]["overall"]["loss"])
    assert loss["other"] == pytest.approx(comparison["validation"]["overall"]["loss"])
    assert loss["better"] == "other"
    assert loss["p"] < 0.01
    assert loss["interval"][0] > 0
    assert loss["n"] == evaluation["validation"]["rows_used"]
    assert tests["answer_loss", "overall"]["n"] == loss["n"]
    groups = {group for measure, group in tests if measure == "loss"}
    assert groups == {"overall", "exercise mcq", "exercise editing", "language en", "language fr"}
    for test in comparison["tests"]:
        assert test["adjusted_p"] >= test["p"]
    exact = tests["exact_match", "overall"]
    assert (exact["this"], exact["other"]) == (
        evaluation["exam"]["overall"]["exact_match"],
        comparison["exam"]["overall"]["exact_match"],
    )
    assert comparison["notes"] == []
    assert loss["sentence"] in capsys.readouterr().out


def test_the_same_model_twice_cannot_be_told_apart(run_folder, tmp_path):
    assert main([str(run_folder), "--compare", str(run_folder), "--output_dir", str(tmp_path / "twice")]) == 0
    (comparison,) = read_evaluation(tmp_path / "twice")["comparisons"]
    assert {test["better"] for test in comparison["tests"]} == {None}
    assert {test["difference"] for test in comparison["tests"]} == {0.0}


def test_what_limits_a_comparison_is_said(run_folder, tiny_folder, tmp_path):
    other_split = tmp_path / "other_split"
    shutil.copytree(run_folder, other_split)
    recipe = other_split / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("split_seed: 1", "split_seed: 2").replace("concat", "best_fit"))
    words = [str(run_folder), "--no_exam", "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--compare", str(other_split), str(tiny_folder)]) == 0
    evaluation = read_evaluation(tmp_path / "out")
    first, second = evaluation["comparisons"]
    assert "another dataset or split" in first["notes"][0]
    assert "is not known" in second["notes"][0]
    # one of them was trained on documents side by side: none is scored on a document's first token
    assert evaluation["validation"]["first_token_scored"] is False
    assert first["validation"]["overall"]["tokens"] == evaluation["validation"]["overall"]["tokens"]


def test_models_with_other_tokens_are_compared_in_bits_a_byte(run_folder, tmp_path, tokenizer):
    bytes_only = tmp_path / "bytes"
    shutil.copytree(run_folder, bytes_only)
    settings = json.loads((bytes_only / "tokenizer.json").read_text())
    settings["model"]["merges"] = []  # each byte is a token
    (bytes_only / "tokenizer.json").write_text(json.dumps(settings))
    words = [str(run_folder), "--compare", str(bytes_only), "--no_exam", "--output_dir", str(tmp_path / "out")]
    assert main(words) == 0
    evaluation = read_evaluation(tmp_path / "out")
    (comparison,) = evaluation["comparisons"]
    assert {test["measure"] for test in comparison["tests"]} == {"bits_per_byte"}
    assert "tokenizers" in comparison["notes"][0]
    overall = comparison["tests"][0]
    assert overall["this"] == pytest.approx(evaluation["validation"]["overall"]["bits_per_byte"])
    assert overall["other"] == pytest.approx(comparison["validation"]["overall"]["bits_per_byte"])


def test_given_rows_and_exam(tiny_folder, rows_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--rows", str(rows_file), "--max_rows", "12", "--exam", str(rows_file), "--max_questions", "6"]
    assert main([str(tiny_folder), *words, "--exam_tokens", "4"]) == 0
    evaluation = read_evaluation(tmp_path / "runs" / "evaluation" / "tiny")  # the model's folder is no run
    assert evaluation["validation"]["rows_used"] == 12
    assert evaluation["validation"]["rows_found"] == 60
    assert evaluation["exam"]["asked"] == 6
    assert evaluation["exam"]["max_new_tokens"] == 4
    assert "12 of the first 60 rows of rows.jsonl" in capsys.readouterr().out


def test_a_part_that_is_left_out_stays(run_folder, capsys):
    assert main([str(run_folder), "--no_exam"]) == 0
    assert main([str(run_folder), "--no_loss"]) == 0
    evaluation = read_evaluation(run_folder)
    assert {"validation", "exam"} <= evaluation.keys()
    assert list(evaluation["kept_from"]) == ["validation"]
    assert "Kept from an earlier evaluation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_rows", "0"], "--max_rows: 0 is not in 1 to 1000000000"),
        (["--max_questions", "-1"], "--max_questions: -1 is not in 1 to"),
        (["--no_loss", "--no_exam"], "leave nothing to do"),
        (["--task_folder", "tasks"], "--task_folder is for --tasks"),
        (["--tasks", "core", "--num_fewshot", "5"], "--num_fewshot is not for --tasks core"),
        (["--max_row", "3"], "unrecognized arguments"),
        (["--max_rows", "99999999999999999999"], "is not in 1 to 1000000000"),
        (["--max_rows", "nan"], "invalid int value: 'nan'"),
        (["--num_fewshot", "-1"], "--num_fewshot: -1 is not in 0 to"),
        (["--rows", ""], "--rows: '' names nothing"),
        (["--compare", " "], "--compare: ' ' names nothing"),
        (["--output_dir", ""], "--output_dir: '' names nothing"),
    ],
)
def test_words_that_make_no_sense_are_refused(tiny_folder, capsys, words, message):
    with pytest.raises(SystemExit):
        main([str(tiny_folder), *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--exam_tokens", "60"], "no question fits: the shortest has"),
        (["--rows", "gone.jsonl"], "--rows gone.jsonl"),
        (["--exam", "gone.jsonl"], "gone.jsonl"),
        (["--compare", "runs/nowhere"], "runs/nowhere: There is no such folder"),
    ],
)
def test_what_cannot_be_had_ends_in_one_line(run_folder, capsys, caplog, words, message):
    assert main([str(run_folder), *words]) == 2
    (record,) = [record for record in caplog.records if record.name == "train.evaluation"]
    assert message in record.getMessage()
    assert "\n" not in record.getMessage()
    assert not (run_folder / "evaluation.json").exists()


@pytest.mark.parametrize("place", ["run/config.json", "~/file/x"])
def test_a_place_that_takes_no_file_is_refused_before_the_work(run_folder, tmp_path, monkeypatch, caplog, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setattr("train.evaluation.__main__.measure", None)
    assert main([str(run_folder), f"--output_dir={place}"]) == 2
    assert f"cannot be written into {place.replace('~', str(tmp_path))}" in caplog.text


def test_an_exam_of_which_nothing_fits_is_left_out_unless_it_was_asked_for(run_folder, tmp_path, row, caplog):
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps(row(0, query="why " * 40)) + "\n")
    recipe = run_folder / "recipe.yaml"
    recipe.write_text(f"{recipe.read_text()}exam: {exam}\n")
    assert main([str(run_folder)]) == 0
    assert "The exam is left out. run: no question fits" in caplog.text
    assert "validation" in (made := read_evaluation(run_folder))
    assert "exam" not in made
    assert main([str(run_folder), "--exam", str(exam)]) == 2


def test_damaged_weights_are_refused(run_folder, caplog):
    model = GPT2ScratchForCausalLM.from_pretrained(run_folder)
    model.transformer.final_norm.weight.data[0] = math.nan
    model.save_pretrained(run_folder)
    assert main([str(run_folder), "--no_exam"]) == 2
    assert "weights are damaged" in caplog.text


def test_tasks_alone_are_drawn_and_shown(tmp_path):
    figure = {"task": "piqa", "metric": "acc", "part_of_group": False, "value": 0.6, "interval": [0.5, 0.7], "shots": 0}
    published = [{"value": 0.63, "shots": 0, "source": "a", "note": ""}]
    evaluation = {"model": {"name": "tiny"}, "tasks": [{**figure, "gpt2_small": published}]}
    assert draw_evaluation(tmp_path, evaluation).is_file()
    no_share = {**figure, "metric": "perplexity", "gpt2_small": []}
    assert draw_evaluation(tmp_path, {"model": {"name": "tiny"}, "tasks": [no_share]}) is None


@pytest.mark.multiprocess
def test_two_processes_find_the_same(run_folder, run_to_end, tmp_path):
    main([str(run_folder), "--output_dir", str(tmp_path / "one")])
    output = run_to_end(ForkedRun(main, [str(run_folder), "--output_dir", str(tmp_path / "two")], processes=2))
    assert output.count("Validation loss on") == 1
    one, two = read_evaluation(tmp_path / "one"), read_evaluation(tmp_path / "two")
    assert one["exam"] == two["exam"]
    assert one["validation"]["rows_used"] == two["validation"]["rows_used"]
    for name in ("loss", "bits_per_byte", "answer_loss"):
        assert two["validation"]["overall"][name] == pytest.approx(one["validation"]["overall"][name], rel=1e-6)
