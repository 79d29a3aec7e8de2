"""Which checkpoint is resumed, and under which settings: the same, or ones that train the same."""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from train.checkpointing.checkpoints import verify, write_manifest
from train.checkpointing.run_lock import lock_run
from train.errors import RunRefusedError
from train.pretrain import main
from train.run_files import LOCK_FILE, MANIFEST_FILE
from train.settings.resolving import accumulation_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture
def words(tiny_recipe, shared, row):
    rows = shared / "rows.jsonl"
    rows.write_text("".join(json.dumps(row(number)) + "\n" for number in range(200)))
    settings = ["--dataset", str(rows), "--data_cache_dir", str(shared / "cache"), "--report_to", "none"]
    return ["--config", str(tiny_recipe), *settings]


@pytest.fixture
def finished(words, tmp_path, shared):
    """A finished run of 12 steps with checkpoints 6 and 12: a copy of one made once."""
    made = shared / "made"
    if not made.exists():
        assert main([*words, "--lr_scheduler_type", "constant", "--output_dir", str(made)]) == 0
    folder = tmp_path / "copied"
    shutil.copytree(made, folder)
    return folder


@pytest.fixture
def run(finished):
    """The same, killed before its last file: its last part can be done again."""
    (finished / "results.json").unlink()
    return finished


def resume(words, folder, *more, word="true"):
    words = [*words, "--lr_scheduler_type", "constant", "--output_dir", str(folder), *more]
    return main([*words, "--resume_from_checkpoint", word])


def resumed_step(caplog):
    (found,) = re.findall(r"Resuming from .*checkpoint-(\d+)", caplog.text)
    return int(found)


def test_the_newest_complete_checkpoint_is_taken_and_the_torn_named(words, run, caplog):
    (run / "checkpoint-12" / "optimizer.pt").write_bytes(b"torn")
    assert resume(words, run) == 0
    assert resumed_step(caplog) == 6
    assert re.search(r"Passed over: checkpoint-12: optimizer.pt has 4 bytes", caplog.text)
    assert (run / "damaged-checkpoint-12").exists()
    assert json.loads((run / "checkpoint-12" / MANIFEST_FILE).read_text())["step"] == 12


def test_a_flipped_bit_is_found_at_load(words, run, caplog):
    file = run / "checkpoint-12" / "rng_state.pth"
    content = bytearray(file.read_bytes())
    content[100] ^= 4
    file.write_bytes(content)
    assert resume(words, run) == 0
    assert resumed_step(caplog) == 6
    assert "rng_state.pth is not what was written" in caplog.text
    assert verify(run / "checkpoint-12")["step"] == 12  # a new one; the damaged lies aside
    aside = run / "damaged-checkpoint-12"
    assert (aside / "rng_state.pth").read_bytes() == content
    caplog.clear()
    assert resume(words, run, word=str(aside)) == 2
    assert "rng_state.pth is not what was written" in caplog.text


def test_nothing_complete_is_refused_or_begun_afresh(words, run, tmp_path, caplog):
    for step in (6, 12):
        (run / f"checkpoint-{step}" / MANIFEST_FILE).unlink()
    assert resume(words, run) == 2
    assert "holds a model but no complete checkpoint" in caplog.text
    assert resume(words, run, word="auto") == 2  # there is a finished model, which a fresh start would write over
    assert resume(words, tmp_path / "new", word="auto") == 0


def test_an_older_checkpoint_is_refused_while_newer_ones_lie_beside_it(words, run, tmp_path, caplog):
    assert resume(words, run, word=str(run / "checkpoint-6")) == 2
    assert "also holds checkpoint-12" in caplog.text
    caplog.clear()
    assert resume(words, tmp_path / "other", word=str(run / "checkpoint-6")) == 0
    expected, found = load_file(run / "model.safetensors"), load_file(tmp_path / "other" / "model.safetensors")
    assert all((found[name] == expected[name]).all() for name in expected)


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("word", ["auto", "true"])
def test_a_finished_run_without_checkpoints_has_nothing_to_do(words, finished, word, caplog):
    for step in (6, 12):
        shutil.rmtree(finished / f"checkpoint-{step}")
    before = content(finished)
    assert resume(words, finished, word=word) == 0
    assert "holds a finished run of 12 steps: nothing to do" in caplog.text
    for more, message in (
        (["--max_steps", "16"], f"{word}: {finished} holds a model but no complete checkpoint"),
        (["--n_layer", "3"], "n_layer: 2 in copied, 3 now"),
    ):
        assert resume(words, finished, *more, word=word) == 2
        assert message in caplog.text
    assert content(finished) == before
    (finished / "model.safetensors").unlink()  # then there is something to do
    assert resume(words, finished, word=word) == 2


def test_a_finished_run_that_cannot_be_written_ends_cleanly(words, finished, monkeypatch, caplog, capsys):
    """As on a read-only disk; one that is not finished is refused in one line."""
    before = content(finished)

    def read_only(path, mode):
        return mode & os.W_OK == 0

    def lock(folder):
        raise OSError(errno.EROFS, "Read-only file system", str(folder / LOCK_FILE))

    monkeypatch.setattr("train.buildable.os.access", read_only)
    monkeypatch.setattr("train.run.lock_run", lock)
    assert resume(words, finished, word="auto") == resume(words, finished, "--dry_run", word="auto") == 0
    assert "nothing to do" in caplog.text and "nothing to do" in capsys.readouterr().out
    caplog.clear()
    assert resume(words, finished, "--max_steps", "16", word="auto") == 2
    assert "Read-only file system" in caplog.text
    (finished / "results.json").unlink()
    assert resume(words, finished, word="auto") == 2
    assert "cannot be written" in caplog.text
    assert len(caplog.text.strip().splitlines()) == 2
    assert content(finished).keys() == before.keys() - {finished / "results.json"}


@pytest.mark.parametrize("word", ["auto", "true"])
def test_a_finished_run_keeps_all_that_it_has(words, finished, word, caplog, capsys):
    before = content(finished)
    assert resume(words, finished, word=word) == 0
    assert "holds a finished run of 12 steps: nothing to do" in caplog.text
    assert resume(words, finished, "--max_steps", "6", word=word) == 0
    (finished / "checkpoint-12" / "optimizer.pt").write_bytes(b"torn")  # the model is there, all the same
    assert resume(words, finished, "--dry_run", word=word) == 0
    assert "nothing to do" in capsys.readouterr().out.splitlines()[-1]
    assert resume(words, finished, word=word) == 0
    assert content(finished) == before | {finished / "checkpoint-12" / "optimizer.pt": b"torn"}


def test_a_finished_run_goes_on_to_more_steps(words, finished, monkeypatch, caplog, log_by_step):
    more = ("--max_steps", "16")

    def fail(*args):
        raise KeyboardInterrupt

    kept = [finished / name for name in ("recipe.yaml", "results.json", "trainer_state.json", "model.safetensors")]
    before = [file.read_bytes() for file in kept]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("train.run.RunTrainer.save_checked_model", fail)  # killed while all that is there is of 12 steps
        resume(words, finished, *more, word="auto")
    assert (finished / "checkpoint-16").exists()
    assert [file.read_bytes() for file in kept] == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("train.run.write_results", fail)  # killed when the model is new, and results would be old
        resume(words, finished, *more, word="auto")
    assert not (finished / "results.json").exists()
    assert "max_steps: 16" in (finished / "recipe.yaml").read_text()
    assert resume(words, finished, *more, word="auto") == 0
    assert list(log_by_step(finished)) == list(range(1, 17))
    training = json.loads((finished / "results.json").read_text())["training"]
    losses = [line["loss"] for line in log_by_step(finished).values()]
    assert training["train_loss"] == pytest.approx(sum(losses) / 16)
    assert training["train_runtime"] > 0


def test_a_fresh_start_leaves_a_run_alone(words, finished, tmp_path, caplog):
    before = content(finished)
    new = ["--output_dir", str(finished), "--lr_scheduler_type", "constant"]
    assert main([*words, *new]) == 2
    assert "already holds a run" in caplog.text
    assert main([*words, *new, "--dry_run"]) == 2
    assert content(finished) == before
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "results.json").write_text("{}")
    assert main([*words, "--output_dir", str(tmp_path / "published"), "--resume_from_checkpoint", "auto"]) == 2


def test_a_checkpoint_of_another_run_needs_a_folder_without_one(words, finished, tmp_path, caplog):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    assert resume(words, other, "--max_steps", "16", word=str(finished / "checkpoint-12")) == 2
    assert f"{other} also holds checkpoint-12, checkpoint-6, a finished run" in caplog.text
    for step in (6, 12):
        shutil.rmtree(other / f"checkpoint-{step}")
    assert resume(words, other, word=str(finished / "checkpoint-12")) == 2


def test_a_copied_run_keeps_its_best_model(words, tmp_path):
    """Killed before its last files, and copied: the best is the copy's, even if the original has changed. One is to be
    kept, and the best and the newest are."""
    best = ["--load_best_model_at_end", "true", "--metric_for_best_model", "eval_loss", "--greater_is_better", "true"]
    best += ["--save_total_limit", "1"]
    words = [*words, *best, "--output_dir"]
    made, copied = tmp_path / "made", tmp_path / "copied"
    assert main([*words, str(made)]) == 0
    expected = json.loads((made / "results.json").read_text())["evaluation"]
    made.rename(copied)
    assert str(made) not in (copied / "checkpoint-12" / "trainer_state.json").read_text()
    shutil.copytree(copied / "checkpoint-12", made / "checkpoint-6")  # not what it was
    (copied / "results.json").unlink()
    assert main([*words, str(copied), "--resume_from_checkpoint", "true"]) == 0
    assert json.loads((copied / "results.json").read_text())["evaluation"] == expected
    weights, kept = (load_file(folder / "model.safetensors") for folder in (copied, copied / "checkpoint-6"))
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


@pytest.mark.parametrize("place", ["file", "file/run", "link"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(words, tmp_path, caplog, place):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "run")
    assert main([*words, "--output_dir", str(tmp_path / place)]) == 2
    assert "is not a folder. Choose another" in caplog.text
    assert len(caplog.text.strip().splitlines()) == 1


def test_a_damaged_recipe_is_no_way_on(words, run, caplog):
    """That of the run's folder is not needed for a resume; that of a checkpoint is, and the one before is taken."""
    (run / "recipe.yaml").write_text("n_layer: [")
    (run / "checkpoint-12" / "recipe.yaml").write_text("n_layer: [")
    assert resume(words, run) == 0
    assert resumed_step(caplog) == 6
    assert "Passed over: checkpoint-12: recipe.yaml has" in caplog.text
    assert (run / "recipe.yaml").read_bytes() == (run / "checkpoint-12" / "recipe.yaml").read_bytes()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--n_layer", "3"], "n_layer: 2 in checkpoint-12, 3 now"),
        (["--resid_pdrop", "0.3"], "resid_pdrop: 0.1 in checkpoint-12, 0.3 now"),
        (["--max_samples", "150"], "max_samples: None in checkpoint-12, 150 now"),
        (["--weight_decay", "0.2"], "weight_decay: 0.1 in checkpoint-12, 0.2 now"),
        (["--seed", "1"], "seed: 42 in checkpoint-12, 1 now"),
        (["--learning_rate", "1e-2"], "learning_rate: 0.001 in checkpoint-12, 0.01 now"),
        (["--lr_scheduler_type", "cosine", "--max_steps", "20"], "lr_scheduler_type: "),
        (
            ["--per_device_train_batch_size", "3"],
            "checkpoint-12: 1 processes with --per_device_train_batch_size 3 make",
        ),
        (["--per_device_train_batch_size", "8"], "What would work: a smaller batch"),
        (["--global_batch_size", "8"], "--global_batch_size 8: the steps of "),
        (["--resume_with_changes", "lerning_rate"], "there are no such settings"),
    ],
)
def test_another_recipe_is_refused_with_the_differences(words, run, caplog, more, message):
    before = content(run)
    assert resume(words, run, *more) == 2
    assert message in caplog.text
    assert content(run) == before


def test_another_precision_of_accelerates_configuration_is_refused(words, run, caplog, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert resume(words, run) == 2
    assert "bf16: False in checkpoint-12, True now" in caplog.text


def test_what_is_meant_can_be_named(words, run, caplog, log_by_step):
    more = ["--learning_rate", "5e-4", "--weight_decay", "0.3", "--max_steps", "16"]
    assert resume(words, run, *more, "--resume_with_changes", "learning_rate") == 2
    assert "weight_decay" in caplog.text
    assert resume(words, run, *more, "--resume_with_changes", "learning_rate", "weight_decay", "max_steps") == 0
    log = log_by_step(run)
    assert [log[step]["learning_rate"] for step in (12, 13, 16)] == [1e-3, 5e-4, 5e-4]


@pytest.mark.parametrize(
    "more",
    [
        ["--max_steps", "16"],
        ["--logging_steps", "2", "--eval_steps", "4", "--save_steps", "5", "--sample_tokens", "3"],
        ["--per_device_train_batch_size", "2"],  # accumulated to the same step
        ["--per_device_train_batch_size", "2", "--global_batch_size", "4"],
    ],
    ids=str,
)
def test_what_trains_the_same_is_a_plain_resume(words, run, more):
    assert resume(words, run, *more) == 0


@pytest.mark.parametrize(
    ("schedule", "steps", "status"),
    [("constant_with_warmup", "24", 0), ("warmup_stable_decay", "24", 0), ("cosine", "24", 2), ("linear", "24", 2)],
)
def test_a_schedule_can_be_prolonged_if_it_has_not_begun_to_decay(
    words, tmp_path, schedule, steps, status, log_by_step
):
    settings = ["--lr_scheduler_type", schedule, "--decay_steps", "4", "--warmup_steps", "2"]
    words = [*words, *settings, "--output_dir", str(tmp_path / "run")]
    assert main([*words, "--max_steps", "12"]) == 0
    shutil.rmtree(tmp_path / "run" / "checkpoint-12")  # in its decay
    assert main([*words, "--max_steps", steps, "--resume_from_checkpoint", "true"]) == status
    if status == 0:
        assert main([*words, "--max_steps", steps, "--output_dir", str(tmp_path / "whole")]) == 0
        assert log_by_step(tmp_path / "run") == log_by_step(tmp_path / "whole")


def test_other_data_behind_the_same_name_is_refused(words, run, shared, row, caplog):
    (shared / "rows.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(5, 205)))
    assert resume(words, run) == 2
    assert "was trained on other tokens" in caplog.text
    assert resume(words, run, "--resume_with_changes", "dataset") == 0


@pytest.mark.parametrize(
    ("sequences", "batch", "processes", "accumulated"), [(8, 4, 1, 2), (8, 4, 2, 1), (8, 1, 4, 2), (512, 8, 8, 8)]
)
def test_accumulation_keeps_the_global_batch(sequences, batch, processes, accumulated):
    assert accumulation_for(sequences, batch, processes, "a test") == accumulated


def test_numbers_of_processes_that_would_work_are_named():
    with pytest.raises(ValueError, match=r"4 x 1 or 2 or 4 processes"):
        accumulation_for(16, 4, 3, "a test")


def test_a_second_run_in_the_folder_is_refused(words, run, caplog, monkeypatch):
    monkeypatch.setattr("train.run.lock_run", lambda folder: lock_run(folder, seconds=0.2))
    hold = f"""
    import sys
    from filelock import FileLock
    with FileLock({str(run / LOCK_FILE)!r}):
        print("held", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(hold)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert resume(words, run) == 2
        assert "Another run is writing into" in caplog.text
        other.kill()
    assert resume(words, run) == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_file_locks_is_refused_or_has_a_lock_of_its_own(tmp_path, monkeypatch, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    if number == errno.ENOSYS:
        refused = pytest.raises(RunRefusedError, match="Another run is writing into")
        with pytest.warns(UserWarning, match="flock not"), lock_run(tmp_path), refused, lock_run(tmp_path, seconds=0.2):
            pass
    else:
        with pytest.raises(OSError, match=rf"cannot be locked \({os.strerror(number)}\)"), lock_run(tmp_path):
            pass


def test_a_run_on_another_machine_is_seen_where_locks_are_not(tmp_path, monkeypatch):
    """Lustre with `localflock`: each machine gets the lock."""
    monkeypatch.setattr("train.checkpointing.run_lock.FileLock", lambda *_, **__: SimpleNamespace(acquire=nullcontext))
    monkeypatch.setattr("train.checkpointing.run_lock.SECONDS_BETWEEN_SIGNS", 0.1)
    with lock_run(tmp_path):
        monkeypatch.setattr("platform.node", lambda: "other")
        with (
            pytest.raises(RunRefusedError, match=r"Another run is writing .*, whose locks are not seen"),
            lock_run(tmp_path),
        ):
            pass
    assert not (tmp_path / "run.owner").exists()
    (tmp_path / "run.owner").write_text("a machine that died")
    with lock_run(tmp_path):  # after a while in which it was not touched
        assert (tmp_path / "run.owner").read_text().startswith("other (")


def test_of_two_machines_that_begin_at_once_one_is_refused(tmp_path, monkeypatch):
    """The other one's file is there between this one's look and its own."""
    (tmp_path / "run.owner").write_text("other (1)")

    def see_nothing(*_, **__):
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", see_nothing)
        with pytest.raises(RunRefusedError, match=r"has begun in .* at this moment"), lock_run(tmp_path):
            pass
    assert (tmp_path / "run.owner").read_text() == "other (1)"


class RunsCodeWhenLoaded:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_that_runs_code_is_not_loaded(words, run, tmp_path, file):
    """Someone else's checkpoint, with a manifest to match."""
    shutil.rmtree(run / "checkpoint-12")
    torch.save({"state": RunsCodeWhenLoaded(tmp_path / "code has run")}, run / "checkpoint-6" / file)
    manifest = json.loads((run / "checkpoint-6" / MANIFEST_FILE).read_text())
    (run / "checkpoint-6" / MANIFEST_FILE).unlink()
    write_manifest(run / "checkpoint-6", {name: value for name, value in manifest.items() if name != "files"})
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        resume(words, run)
    assert not (tmp_path / "code has run").exists()


@pytest.mark.parametrize(
    "setting",
    [
        "auto_find_batch_size",
        "dataloader_persistent_workers",
        "enable_jit_checkpoint",
        "ignore_data_skip",
        "save_only_model",
        "save_on_each_node",
    ],
)
def test_what_could_not_be_resumed_is_refused_by_name(words, tmp_path, caplog, setting):
    more = ["--dataloader_num_workers", "1"] if setting == "dataloader_persistent_workers" else []
    assert main([*words, *more, f"--{setting}", "true", "--output_dir", str(tmp_path / "run")]) == 2
    assert f"--{setting} True: " in caplog.text
    assert not (tmp_path / "run").exists()
