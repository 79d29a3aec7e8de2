"""A model before and after post-training: its marks in an exam, and its validation loss of the pre-training."""

from train.evaluation.result_rows import exam_table
from train.post_training.forgetting import ValidationSequences


def describe_change(before: dict, after: dict, sequences: ValidationSequences | None) -> dict:
    """Both figures, under the names of `results.json`."""
    forgetting = sequences and {
        "pretraining_loss_before": before["pretraining_loss"],
        "pretraining_loss": after["pretraining_loss"],
        "sequences": sequences.count,
    }
    return {"exam": after["exam"], "exam_before": before["exam"], "forgetting": forgetting}


def render_change(before: dict, after: dict) -> str:
    """The marks as a table, and a line on what is forgotten."""
    table = exam_table(after["exam"], before["exam"])
    lines = [] if table is None else [table.to_text()]
    first, last = before["pretraining_loss"], after["pretraining_loss"]
    if first is not None and last is not None:
        change = f"{first:.4f} before, {last:.4f} after ({last - first:+.4f} nats per token)"
        lines.append(f"validation loss of the pre-training: {change}")
    return "\n".join(lines)
