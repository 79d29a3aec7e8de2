import subprocess
import sys

import pytest

from train.evaluation.record import FORMAT, hash_weights, is_of_weights, keep_earlier, read_evaluation, write_evaluation
from train.run_files import EVALUATION_FILE


def evaluation(digest: str | None = "a", **parts) -> dict:
    return {"format": FORMAT, "date": "2026-01-02T03:04:05+00:00", "model": {"weights_sha256": digest}, **parts}


def test_reading_needs_no_heavy_library():
    code = (
        "import sys, train.evaluation.record;"
        "heavy = {'torch', 'transformers', 'scipy', 'numpy', 'matplotlib', 'pyarrow'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_what_is_written_is_read(tmp_path):
    assert read_evaluation(tmp_path) is None
    write_evaluation(tmp_path, evaluation(validation={"rows": "Übung"}))
    assert read_evaluation(tmp_path)["validation"]["rows"] == "Übung"
    assert [file.name for file in tmp_path.iterdir()] == [EVALUATION_FILE]


def test_an_earlier_evaluation_is_read_under_the_names_of_today(tmp_path):
    other = {"held_out": {"rows": "other"}}
    earlier = evaluation(held_out={"rows": 'a "held_out": row'}, comparisons=[other], kept_from={"held_out": "2026"})
    write_evaluation(tmp_path, earlier)
    read = read_evaluation(tmp_path)
    assert read["validation"] == {"rows": 'a "held_out": row'}
    assert read["comparisons"] == [{"validation": {"rows": "other"}}]
    assert read["kept_from"] == {"validation": "2026"}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "date": "", "model": 3}', '{"format": 99}']
)
def test_what_cannot_be_read_is_refused(tmp_path, text):
    (tmp_path / EVALUATION_FILE).write_text(text)
    with pytest.raises(ValueError, match="evaluate again"):
        read_evaluation(tmp_path)


def test_an_evaluation_of_older_weights_is_noticed(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"new")
    made = hash_weights([weights])
    assert is_of_weights(made, tmp_path) is True
    weights.write_bytes(b"newer")
    assert is_of_weights(made, tmp_path) is False
    weights.unlink()
    assert is_of_weights(made, tmp_path) is None


def test_weights_in_several_files_have_one_name(tmp_path):
    files = [tmp_path / "model-1.safetensors", tmp_path / "model-2.safetensors"]
    for file in files:
        file.write_bytes(file.name.encode())
    both = hash_weights(files)
    assert both == hash_weights(files[::-1])
    assert both not in (hash_weights(files[:1]), hash_weights(files[1:]), None)
    assert hash_weights([]) is None


def test_what_is_left_out_stays_from_an_earlier_evaluation_of_the_same_weights(tmp_path):
    earlier = evaluation(validation=1, exam=2, tasks=[{"task": "piqa", "value": 1}, {"task": "copa", "value": 2}])
    write_evaluation(tmp_path, earlier)
    new = {**evaluation(exam=3, tasks=[{"task": "piqa", "value": 4}]), "date": "2026-05-06"}
    kept = keep_earlier(new, tmp_path)
    assert (kept["validation"], kept["exam"]) == (1, 3)
    assert kept["tasks"] == [{"task": "piqa", "value": 4}, {"task": "copa", "value": 2}]
    assert kept["kept_from"] == {"validation": earlier["date"], "tasks": earlier["date"]}
    write_evaluation(tmp_path, kept)
    again = keep_earlier({**evaluation(), "date": "2026-07-08"}, tmp_path)
    assert again["kept_from"] == {"validation": earlier["date"], "exam": "2026-05-06", "tasks": earlier["date"]}


@pytest.mark.parametrize(("mine", "earliers"), [("a", "b"), (None, None)])
def test_parts_of_other_weights_are_not_kept(tmp_path, mine, earliers, caplog):
    assert keep_earlier(evaluation(mine), tmp_path) == evaluation(mine)  # there is none
    file = write_evaluation(tmp_path, evaluation(earliers, validation=1))
    assert keep_earlier(evaluation(mine), tmp_path) == evaluation(mine)
    assert ("of other weights" in caplog.text) == (mine is not None)  # what is replaced is named
    file.write_text("{")  # damaged
    assert keep_earlier(evaluation(mine), tmp_path) == evaluation(mine)


def test_a_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_evaluation(tmp_path, evaluation(validation=float("nan")))
