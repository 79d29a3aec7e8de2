import signal

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from train.callbacks.graceful_stop import GracefulStop


@pytest.fixture
def training(tmp_path):
    """A stop that listens, and what the Trainer hands to callbacks; the handlers are put back afterwards."""
    stop, state, control = GracefulStop(), TrainerState(), TrainerControl()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    stop.on_train_begin(arguments, state, control)
    yield stop, arguments, state, control
    stop.on_train_end(arguments, state, control)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_at_the_end_of_the_step(training, number):
    stop, arguments, state, control = training
    stop.on_step_end(arguments, state, control)
    assert not control.should_training_stop
    signal.raise_signal(number)
    assert stop.signal_number is None  # the step goes on
    stop.on_step_end(arguments, state, control)
    assert control.should_save
    assert control.should_training_stop
    assert stop.signal_number == number


def test_a_second_ctrl_c_stops_at_once(training):
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_does_not_cut_the_checkpoint_short(training):
    stop, arguments, state, control = training
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    stop.on_step_end(arguments, state, control)
    assert control.should_save


def test_the_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    stop, state, control = GracefulStop(), TrainerState(), TrainerControl()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    stop.on_train_begin(arguments, state, control)
    assert signal.getsignal(signal.SIGTERM) != before
    stop.on_train_end(arguments, state, control)
    assert signal.getsignal(signal.SIGTERM) == before
