"""Complete and torn checkpoints: which are found when resuming, and which rotation may delete."""

import json
import shutil

import pytest

from train.checkpointing.checkpoints import (
    DamagedCheckpointError,
    checkpoints_in,
    move_files,
    newest_complete,
    put_aside_damaged,
    put_in_place,
    rotate,
    verify,
    write_manifest,
)
from train.run_files import MANIFEST_FILE, UNFINISHED_FOLDER


@pytest.fixture
def make(tmp_path):
    """A complete checkpoint of a step, written as a run writes it."""

    def make(step):
        unfinished = tmp_path / UNFINISHED_FOLDER / f"checkpoint-{step}"
        (unfinished / "shards").mkdir(parents=True)
        (unfinished / "model.safetensors").write_bytes(bytes(range(256)) * 40)
        (unfinished / "shards" / "0.distcp").write_bytes(b"shard")
        (unfinished / "empty").touch()
        write_manifest(unfinished, {"step": step})
        return put_in_place(unfinished, tmp_path)

    return make


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def flip_one_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "no manifest": (lambda folder: (folder / MANIFEST_FILE).unlink(), "not finished"),
    "torn manifest": (lambda folder: (folder / MANIFEST_FILE).write_text('{"files": {'), "cannot be read"),
    "empty manifest": (lambda folder: (folder / MANIFEST_FILE).write_text(""), "cannot be read"),
    "missing file": (lambda folder: (folder / "empty").unlink(), "empty is missing"),
    "missing shard": (lambda folder: shutil.rmtree(folder / "shards"), "shards/0.distcp is missing"),
    "short file": (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "has 1 bytes, 10,240 were written"),
    "flipped bit": (lambda folder: flip_one_bit(folder / "model.safetensors"), "model.safetensors is not what was"),
    "flipped bit in a shard": (lambda folder: flip_one_bit(folder / "shards" / "0.distcp"), "0.distcp is not what was"),
}


def test_a_complete_one_verifies_and_says_what_it_is(make, tmp_path):
    assert verify(make(7))["step"] == 7
    assert names(tmp_path / UNFINISHED_FOLDER) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_named_and_passed_over(make, tmp_path, damage):
    good, bad = make(7), make(14)
    do, message = DAMAGES[damage]
    do(bad)
    with pytest.raises(DamagedCheckpointError, match=message):
        verify(bad)
    assert newest_complete(tmp_path)[0] == good
    (reason,) = newest_complete(tmp_path)[1]
    assert "checkpoint-14" in reason and message in reason


def test_every_file_is_in_the_manifest(make):
    """So a bit that flips anywhere is found."""
    checkpoint = make(7)
    files = {path for path in checkpoint.rglob("*") if path.is_file() and path.name != MANIFEST_FILE}
    assert {checkpoint / name for name in json.loads((checkpoint / MANIFEST_FILE).read_text())["files"]} == files


def test_steps_are_numbers_not_text(make, tmp_path):
    for step in (1000, 200, 30):
        make(step)
    (tmp_path / "checkpoint-old").mkdir()
    assert [path.name for path in checkpoints_in(tmp_path)] == ["checkpoint-1000", "checkpoint-200", "checkpoint-30"]


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [10, 20, 30, 40]),
        (2, None, [30, 40]),
        (1, None, [40]),
        (2, 10, [10, 40]),
        (3, 10, [10, 30, 40]),
        (1, 10, [10, 40]),  # never without the newest
        (2, 40, [30, 40]),
        (9, None, [10, 20, 30, 40]),
    ],
)
def test_rotation_keeps_the_newest_and_the_best(make, tmp_path, limit, best, kept):
    for step in (10, 20, 30, 40):
        make(step)
    rotate(tmp_path, limit, tmp_path / f"checkpoint-{best}" if best else None)
    assert [int(path.name[11:]) for path in reversed(checkpoints_in(tmp_path))] == kept


def test_rotation_does_not_count_damaged_ones(make, tmp_path):
    """Else two torn folders would drive out the last that can be resumed from."""
    for step in (10, 20, 30, 40):
        make(step)
    for step in (30, 40):
        (tmp_path / f"checkpoint-{step}" / MANIFEST_FILE).unlink()
    rotate(tmp_path, 2, None)
    assert newest_complete(tmp_path)[0] == tmp_path / "checkpoint-20"
    assert (tmp_path / "checkpoint-10").exists()


def test_a_new_start_clears_the_way(make, tmp_path):
    for step in (5, 10, 20, 30):
        make(step)
    (tmp_path / "checkpoint-5" / "model.safetensors").unlink()
    flip_one_bit(tmp_path / "checkpoint-20" / "model.safetensors")
    (tmp_path / "checkpoint-30" / "model.safetensors").unlink()
    (tmp_path / UNFINISHED_FOLDER / "checkpoint-40").mkdir()
    (tmp_path / "checkpoint-40").touch()  # no folder
    (tmp_path / "checkpoint-50").symlink_to(tmp_path / "gone")
    for _ in range(2):
        put_aside_damaged(tmp_path, resumed=tmp_path / "checkpoint-10")
        aside = [f"damaged-checkpoint-{step}" for step in (20, 30, 40, 5, 50)]
        assert names(tmp_path) == ["checkpoint-10", *aside]
        (tmp_path / "checkpoint-50").symlink_to(tmp_path / "gone")  # again, where one lies aside already


@pytest.mark.parametrize("resumed", [None, "checkpoint-10"])
def test_nothing_complete_is_put_aside(make, tmp_path, resumed):
    made = [make(step).name for step in (10, 20, 30)]
    put_aside_damaged(tmp_path, resumed and tmp_path / resumed)
    assert names(tmp_path) == made


def test_linked_checkpoints_are_resumed_from_and_rotated(make, tmp_path):
    for step in (10, 20):
        make(step).rename(tmp_path / f"elsewhere-{step}")
        (tmp_path / f"checkpoint-{step}").symlink_to(tmp_path / f"elsewhere-{step}")
    assert newest_complete(tmp_path) == (tmp_path / "checkpoint-20", [])
    rotate(tmp_path, 1, None)
    assert names(tmp_path) == ["checkpoint-20", "elsewhere-10", "elsewhere-20", UNFINISHED_FOLDER]


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": 3}', "null"])
def test_a_manifest_of_another_form_is_damage(make, tmp_path, content):
    (make(7) / MANIFEST_FILE).write_text(content)
    assert newest_complete(tmp_path)[0] is None


def test_moved_files_replace_their_namesakes(tmp_path):
    for folder in ("new", "run"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_text(folder)
    (tmp_path / "run" / "recipe.yaml").write_text("kept")
    move_files(tmp_path / "new", tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_text() == "new"
    assert names(tmp_path / "run") == ["model.safetensors", "recipe.yaml"]
    assert names(tmp_path) == ["run"]
