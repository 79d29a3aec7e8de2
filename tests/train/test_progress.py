import pytest

from train.progress import describe_log, show_seconds


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
        "step 2 | held-out loss 2.5000 | perplexity 12.18"
    )
