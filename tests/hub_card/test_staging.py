"""Staging takes the files on the list, and no others; bad runs are refused before anything is staged."""

import hashlib
import json

import pytest
from filelock import FileLock

from hub_card import publish, publishing, staging
from hub_card.publish import main
from hub_card.publishing import describe_branches
from hub_card.staging import find_run, list_local_paths, stage
from hub_card.verification.without_project import VerificationError


RUN_FILES = {
    *("model.safetensors", "config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    *("README.md", "loss_curve.png", "results.json", "recipe.yaml", "samples.jsonl", "LICENSE"),
}
EXPORT_FILES = {
    *("model.safetensors", "config.json", "generation_config.json", "README.md"),
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE"),
    *("onnx", "onnx/model.onnx", "onnx/model_quantized.onnx"),
}


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_exactly_the_list_is_staged(run, tmp_path):
    code = {file.name for file in run.glob("*.py")}
    assert {"causal_lm.py", "attention.py", "config.py"} <= code
    for stray in ("training_args.bin", "optimizer.pt", "notes.txt", "stray.py", ".env", "model.bin"):
        (run / stray).write_text("not to be published")
    place = tmp_path / "place"
    place.mkdir()
    branches = stage(run, place, "you/tiny")
    assert names(branches["main"]) == RUN_FILES | code
    assert names(branches["gpt2"]) == EXPORT_FILES
    assert all((folder / "LICENSE").read_text().startswith("MIT License") for folder in branches.values())
    for name in (RUN_FILES | code) - {"README.md", "LICENSE"}:
        assert (branches["main"] / name).read_bytes() == (run / name).read_bytes(), name
    listing = describe_branches(branches, "you/tiny")
    assert f"{(run / 'model.safetensors').stat().st_size:,}  model.safetensors" in listing


def test_staging_twice_gives_the_same_bytes(finished_run, tmp_path):
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
        stage(finished_run, place, "you/tiny")
    first, second = ({path.name: path.read_bytes() for path in place.rglob("*.*")} for place in places)
    assert first == second


def test_without_the_package_there_are_no_onnx_files(finished_run, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(staging, "find_spec", lambda name: None)
    assert "onnx" not in names(staging.stage(finished_run, tmp_path, "you/tiny")["gpt2"])
    assert "pip install -c constraints.txt -e .[export]" in caplog.text


def test_without_the_export_there_is_one_branch(finished_run, tmp_path):
    assert set(stage(finished_run, tmp_path, "you/tiny", with_export=False)) == {"main"}


def test_a_model_that_hugging_faces_gpt2_does_not_compute_is_refused_with_the_way_out(
    finished_run, tmp_path, monkeypatch
):
    def refuse(*_):
        raise ValueError("The exported GPT-2 differs.")

    monkeypatch.setattr("hub_card.staging.save_as_hf_gpt2", refuse)
    with pytest.raises(ValueError, match="--without_hf_gpt2"):
        stage(finished_run, tmp_path, "you/tiny")


def test_missing_code_is_named(run, tmp_path):
    (run / "gelu.py").unlink()
    with pytest.raises(ValueError, match=r"gelu\.py is missing"):
        stage(run, tmp_path, "you/tiny")


def test_damaged_weights_are_named(run, tmp_path):
    with open(run / "model.safetensors", "r+b") as file:
        file.truncate(1_000_000)
    with pytest.raises(ValueError, match=r"results\.json is of other weights"):
        stage(run, tmp_path, "you/tiny")


def test_local_paths_are_found(finished_run):
    found = list_local_paths(finished_run)
    assert ("results.json", str(finished_run.parent / "rows.jsonl")) in found
    assert ("recipe.yaml", str(finished_run)) in found


def test_local_paths_in_parts_of_settings_are_found(run):
    recipe = run / "recipe.yaml"
    recipe.write_text(f"{recipe.read_text()}deepspeed: {{offload: [{{path: /data/mine/swap}}]}}\n")
    assert ("recipe.yaml", "/data/mine/swap") in list_local_paths(run)


def test_figures_of_other_weights_are_not_published(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    weights = run / "model.safetensors"
    assert results["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.write_bytes(b"others")
    with pytest.raises(ValueError, match=r"results\.json is of other weights .*: copy the whole run again"):
        stage(run, tmp_path / "out", "you/tiny")


def test_figures_of_unknown_weights_are_said(run, tmp_path, caplog):
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps({**results, "weights_sha256": None}))
    (tmp_path / "out").mkdir()
    stage(run, tmp_path / "out", "you/tiny")
    assert "does not tell the weights that it is of" in caplog.text


@pytest.mark.parametrize("name", ["results.json", "recipe.yaml", "config.json", "trainer_state.json"])
@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "{"])
def test_a_damaged_file_is_named(run, tmp_path, name, text):
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=rf"is damaged \({name} cannot be read: .*\): copy the whole run again"):
        stage(run, tmp_path / "out", "you/tiny")


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("results.json", {"data": None}),
        ("results.json", {"exam": [{"exercise": 1}], "versions": "x"}),
        ("recipe.yaml", {"exam": 5}),
        ("config.json", {"vocab_size": [1]}),
        ("samples.jsonl", {"step": 1, "question": "?"}),
        ("config.json", {"auto_map": "x"}),
        ("config.json", {"auto_map": {"AutoModel": 1}}),
    ],
)
def test_a_file_of_another_form_is_named(run, tmp_path, file, changes):
    kept = {} if file in ("recipe.yaml", "samples.jsonl") else json.loads((run / file).read_text())
    (run / file).write_text(json.dumps({**kept, **changes}) + "\n")
    with pytest.raises(ValueError, match=rf"something else in {file} than a run writes|{file} has no auto_map"):
        stage(run, tmp_path, "you/tiny", with_export=False)


@pytest.mark.parametrize("words", [("",), ("run", "--staging_dir", "")])
def test_an_empty_name_is_not_the_current_folder(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--repo_id", "you/tiny"])
    assert "'' names nothing" in capsys.readouterr().err


@pytest.mark.parametrize("removed", ["model.safetensors", "results.json", "tokenizer.json"])
def test_what_is_no_finished_run_is_refused(run, removed):
    (run / removed).unlink()
    with pytest.raises(ValueError, match=rf"lacks {removed[:5]}.*--resume_from_checkpoint true"):
        find_run(run)


def test_a_checkpoint_is_no_run(finished_run):
    with pytest.raises(ValueError, match=r"is a checkpoint: name the run's own folder, tiny\."):
        find_run(finished_run / "checkpoint-4")


@pytest.mark.parametrize("repo_id", ["tiny", "you/tiny/more", "you/ti ny", "/tiny", "you/--x"])
def test_a_bad_repository_id_comes_before_all_work(repo_id, finished_run, monkeypatch):
    monkeypatch.setattr(publish, "stage", lambda *_: pytest.fail("staged"))
    assert main([str(finished_run), "--repo_id", repo_id]) == 2


def test_the_exit_status_of_a_missing_run_is_2(tmp_path, caplog):
    assert main([str(tmp_path / "nothing"), "--repo_id", "you/tiny"]) == 2
    assert "there is no such folder" in caplog.text


def test_a_run_that_is_being_written_is_left_alone(run, caplog):
    with FileLock(run / "run.lock"):
        assert main([str(run), "--repo_id", "you/tiny", "--dry_run"]) == 2
    assert "wait for its end" in caplog.text


def test_a_staging_folder_with_files_is_refused(finished_run, tmp_path, caplog):
    (tmp_path / "old.txt").write_text("")
    words = [str(finished_run), "--repo_id", "you/tiny", "--dry_run", "--staging_dir", str(tmp_path)]
    assert main(words) == 2
    assert "is not an empty folder" in caplog.text


def test_not_logged_in_is_told_before_anything_is_staged(finished_run, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr(publish, "stage", lambda *_, **__: pytest.fail("staged"))
    assert main([str(finished_run), "--repo_id", "you/tiny"]) == 1
    assert "hf auth login" in caplog.text
    assert "\n" not in caplog.messages[-1]


def test_what_is_not_verified_is_not_uploaded(finished_run, monkeypatch, caplog):
    def fail(*_):
        raise VerificationError("it does not open")

    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(publish, "verify_model", fail)
    monkeypatch.setattr(publishing, "upload", lambda *_: pytest.fail("uploaded"))
    assert main([str(finished_run), "--repo_id", "you/tiny"]) == 1
    assert "it does not open" in caplog.text


def test_a_dry_run_shows_everything_and_keeps_the_staged_folder(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(publish, "verify_model", lambda *_: None)
    monkeypatch.setattr(publishing, "upload", lambda *_: pytest.fail("uploaded"))
    words = [str(finished_run), "--repo_id", "you/tiny", "--dry_run", "--staging_dir", str(tmp_path / "staged")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for branch in ("main", "gpt2"):
        files = sum(file.is_file() for file in (tmp_path / "staged" / branch).rglob("*"))
        assert f"you/tiny, branch {branch}: {files} files, " in shown
    assert json.loads((tmp_path / "staged" / "gpt2" / "config.json").read_text())["model_type"] == "gpt2"
