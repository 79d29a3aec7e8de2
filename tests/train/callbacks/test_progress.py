import pytest

from train.callbacks.progress import describe_log, show_seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_seconds_read_as_people_say_them(seconds, text):
    assert show_seconds(seconds) == text


def test_a_log_line_says_everything_in_a_fixed_order():
    logs = {
        "eta_seconds": 61,
        "mfu": 0.462,
        "loss": 3.21456,
        "grad_norm": 0.871,
        "learning_rate": 2.4e-3,
        "epoch": 0.3,
        "tokens_seen": 332800,
        "tokens_per_second": 2310,
        "data_wait": 0.0004,
        "memory_gib": 0.83,
        "spikes": 2,
    }
    assert describe_log(1300, logs) == (
        "step 1,300 | loss 3.2146 | grad norm 0.871 | lr 0.0024 | 332,800 tokens | 2,310 tokens/s | MFU 46.2% | "
        "data wait 0.04% | 0.83 GiB | ETA 1 min 1 s | spikes 2"
    )
    assert describe_log(2, {"eval_loss": 2.5, "eval_perplexity": 12.18, "eval_steps_per_second": 3}) == (
        "step 2 | validation loss 2.5000 | perplexity 12.18"
    )


def test_of_trl_s_figures_the_telling_ones_are_shown():
    logs = {"loss": 0.1, "reward": 0.4, "rewards/accuracy_reward/mean": 0.25, "clip_ratio/low_mean": 0.0, "kl": 0.01}
    assert describe_log(3, logs) == "step 3 | loss 0.1000 | right 25.0% | kl 0.0100"
    validation = {"eval_loss": 0.5, "eval_rewards/margins": 1.5, "eval_rewards/chosen": 0.2, "eval_logps/chosen": -3.0}
    assert describe_log(3, validation) == "step 3 | validation loss 0.5000 | margin 1.500"
