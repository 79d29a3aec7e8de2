import pytest
import torch
from transformers import get_scheduler

from train.checkpointing.compatible_settings import learning_rates
from train.optim.schedules import schedule_options


def rates(schedule, total_steps, warmup_steps=0, options=None, decay_steps=0.2):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        schedule,
        optimizer,
        num_warmup_steps=warmup_steps,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=schedule_options(schedule, options, decay_steps, total_steps),
    )
    return [scheduler.lr_lambdas[0](step) for step in range(total_steps)]


def test_a_share_of_the_run_decays():
    found = rates("warmup_stable_decay", 100, warmup_steps=10, options={"decay_type": "linear"}, decay_steps=0.3)
    assert found[9] < 1.0
    assert found[10:70] == [1.0] * 60
    assert found[70:] == pytest.approx([1 - step / 30 for step in range(30)])


def test_so_do_a_number_of_steps():
    found = rates("warmup_stable_decay", 100, decay_steps=5)
    assert found[94] == 1.0
    assert 0 < found[99] < found[96] < 1.0


@pytest.mark.parametrize("options", [{"num_decay_steps": 40}, '{"num_decay_steps": 40}'])
def test_the_schedules_own_options_win(options):
    found = rates("warmup_stable_decay", 100, options=options, decay_steps=0.5)
    assert found[59] == 1.0
    assert found[61] < 1.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_other_schedules_get_only_their_own_options(schedule):
    assert schedule_options(schedule, None, 0.2, 100) == {}
    assert len(rates(schedule, 100)) == 100


def test_a_resumed_run_is_judged_by_the_same_rates():
    settings = {
        "learning_rate": 0.5,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "warmup_stable_decay",
        "lr_scheduler_kwargs": None,
        "decay_steps": 0.2,
    }
    expected = [0.5 * rate for rate in rates("warmup_stable_decay", 50, warmup_steps=5)]
    assert learning_rates(settings, 50, 50) == expected
