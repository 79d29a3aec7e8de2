"""A resumed optimizer has the settings of this start."""

import pytest
import torch
from transformers import TrainerControl, TrainerState, get_scheduler

from train.callbacks.current_settings import CurrentSettings


def build(learning_rate, weight_decay):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [parameter], "lr": learning_rate, "weight_decay": weight_decay}])
    return optimizer, get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=10)


@pytest.mark.parametrize(("step", "rate"), [(4, 0.5 * 0.6), (0, 0.5)])
def test_a_checkpoint_s_settings_give_way(step, rate):
    earlier, earlier_schedule = build(1.0, 0.1)
    for _ in range(step):
        earlier.step()
        earlier_schedule.step()
    optimizer, schedule = build(0.5, 0.2)
    current = CurrentSettings()
    current.note(optimizer)
    if step:
        optimizer.load_state_dict(earlier.state_dict())
        schedule.load_state_dict(earlier_schedule.state_dict())
    state = TrainerState(global_step=step)
    current.on_train_begin(None, state, TrainerControl(), optimizer=optimizer, lr_scheduler=schedule)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(rate), 0.2)
    assert schedule.get_last_lr() == [pytest.approx(rate)]
