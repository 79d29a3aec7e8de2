"""All starts of a run draw into one folder; a resumed one draws over what came after its step; samples are a table."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.callbacks.tensorboard import RunTensorBoard
from train.run_files import SAMPLES_FILE


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def read(folder):
    return EventAccumulator(str(folder)).Reload()


def draw(arguments, folder, steps):
    board, control = RunTensorBoard(folder), TrainerControl()
    board.on_train_begin(arguments, TrainerState(global_step=steps[0] - 1), control)
    for step in steps:
        board.on_log(arguments, TrainerState(global_step=step), control, logs={"loss": float(step)})
    board.on_train_end(arguments, TrainerState(), control)


@pytest.mark.parametrize("resumed_step", [3, 0])
def test_a_resumed_run_draws_each_step_once(arguments, tmp_path, resumed_step):
    draw(arguments, tmp_path / "board", range(1, 6))
    draw(arguments, tmp_path / "board", range(resumed_step + 1, 5))
    assert [event.step for event in read(tmp_path / "board").Scalars("train/loss")] == [1, 2, 3, 4]


def test_samples_are_a_table_over_steps(arguments, tmp_path):
    samples = [{"step": step, "question": name, "text": "a | b"} for step in (1000, 2000) for name in ("Why?", "Who?")]
    (tmp_path / SAMPLES_FILE).write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    board, state, control = RunTensorBoard(tmp_path / "board"), TrainerState(), TrainerControl()
    board.on_train_begin(arguments, state, control)
    board.on_evaluate(arguments, state, control)
    board.on_train_end(arguments, state, control)
    (event,) = read(tmp_path / "board").Tensors("samples/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "| step | Why? | Who? |"
    assert [line.split()[1] for line in lines[2:]] == ["1,000", "2,000"]
    assert "a \\| b" in lines[2]
