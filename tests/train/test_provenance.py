import re
import subprocess

from train.provenance import git_commit


def test_the_commit_is_named_only_where_it_is_the_code_that_ran(tmp_path, monkeypatch):
    package = tmp_path / "train"
    package.mkdir()
    monkeypatch.setattr("train.provenance.__file__", str(package / "report.py"))
    assert git_commit() is None  # installed without its repository
    (package / "report.py").write_text("x = 1\n")
    (tmp_path / "model.py").write_text("x = 1\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    assert re.fullmatch(r"[0-9a-f]{40}", git_commit())
    monkeypatch.setattr("train.provenance.__file__", str(package / "other.py"))
    assert git_commit() is None  # installed inside somebody's checkout
    monkeypatch.setattr("train.provenance.__file__", str(package / "report.py"))
    (tmp_path / "model.py").write_text("x = 2\n")
    assert git_commit() is None  # changed, if only elsewhere
