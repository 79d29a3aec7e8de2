"""The progress bar, and log lines under it that people can read."""

import re
from collections.abc import Callable

from transformers import ProgressCallback


def show_seconds(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# Figures of TRL's trainers for dpo and grpo, in training and on validation rows.
POST_TRAINING: dict[str, Callable[[float], str]] = {
    "rewards/accuracies": "pairs in order {:.1%}".format,
    "rewards/margins": "margin {:.3f}".format,
    "rewards/accuracy_reward/mean": "right {:.1%}".format,
    "rewards/format_reward/mean": "in form {:.1%}".format,
    "completions/mean_length": "{:.1f} tokens per answer".format,
    "entropy": "entropy {:.3f}".format,
    "kl": "kl {:.4f}".format,
}
# How the figures of a log line are shown, in this order; others follow as they are.
SHOWN: dict[str, Callable[[float], str]] = {
    "loss": "loss {:.4f}".format,
    "eval_loss": "validation loss {:.4f}".format,
    "eval_perplexity": "perplexity {:,.2f}".format,
    "eval_bits_per_byte": "{:.4f} bits per byte".format,
    "grad_norm": "grad norm {:.3g}".format,
    "learning_rate": "lr {:.3g}".format,
    "tokens_seen": "{:,} tokens".format,
    "tokens_per_second": "{:,} tokens/s".format,
    "mfu": "MFU {:.1%}".format,
    "data_wait": "data wait {:.2%}".format,
    "memory_gib": "{:.2f} GiB".format,
    "eta_seconds": lambda seconds: f"ETA {show_seconds(seconds)}",
    "eval_runtime": lambda seconds: f"took {show_seconds(seconds)}",
    "train_runtime": lambda seconds: f"trained for {show_seconds(seconds)}",
    "train_loss": "mean loss {:.4f}".format,
    **POST_TRAINING,
    **{f"eval_{name}": show for name, show in POST_TRAINING.items()},
}
# Only in the run's files: rates that follow from others, the pass over the rows as a fraction, and details of TRL's.
LEFT_OUT = re.compile(
    r"epoch|total_flos|elapsed_seconds|.*_(samples|steps)_per_second|(eval_)?(rewards/.*|completions/.*|clip_ratio/.*"
    r"|logits/.*|logps/.*|reward|reward_std|frac_reward_zero_std|num_tokens|mean_token_accuracy|step_time)"
)


def describe_log(step: int, logs: dict) -> str:
    """A log entry as one line."""
    shown = [show(logs[name]) for name, show in SHOWN.items() if name in logs]
    others = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in logs.items()
        if name not in SHOWN and not LEFT_OUT.fullmatch(name)
    ]
    return " | ".join([f"step {step:,}", *shown, *others])


class Progress(ProgressCallback):
    """Identical to `transformers.ProgressCallback`, except that log entries are written as text and the bar carries the
    latest losses."""

    def __init__(self) -> None:
        super().__init__()
        self._losses: dict[str, float] = {}

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if not state.is_world_process_zero or self.training_bar is None:
            return
        self.training_bar.write(describe_log(state.global_step, logs))
        self._losses |= {name: logs[name] for name in ("loss", "eval_loss") if name in logs}
        self.training_bar.set_postfix_str(", ".join(SHOWN[name](loss) for name, loss in self._losses.items()))
