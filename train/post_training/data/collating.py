"""Batches of rows that hold several conversations side by side."""

import torch


REAL_TOKENS = "real_tokens"  # how many tokens of a batch are no padding: for the log, and not for the model


class CollatePacked:
    """Identical in its loss to TRL's padding-free collator, except that the rows of a batch stay apart: that one lays
    them behind each other in one long row, whose attention mask grows with the square of the batch.

    Args:
        padding: the token that fills rows up; it is not scored, and sees only itself.
    """

    def __init__(self, padding: int):
        self.padding = padding

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor | int]:
        """`input_ids` (B, T); `labels`, -100 where no loss is wanted; `position_ids`, which begin again at each
        conversation, so that attention stays inside; and the number of `real_tokens`."""
        length = max(len(example["input_ids"]) for example in examples)
        shape = len(examples), length
        input_ids = torch.full(shape, self.padding)
        labels = torch.full(shape, -100)
        position_ids = torch.zeros(shape, dtype=torch.long)
        for row, example in enumerate(examples):
            tokens = len(example["input_ids"])
            input_ids[row, :tokens] = torch.tensor(example["input_ids"])
            labels[row, :tokens] = torch.tensor(example["labels"])
            position_ids[row] = torch.cat([torch.arange(count) for count in (*example["seq_lengths"], length - tokens)])
        labels[position_ids == 0] = -100  # nothing announces a conversation's first token
        real_tokens = sum(len(example["input_ids"]) for example in examples)
        return {"input_ids": input_ids, "labels": labels, "position_ids": position_ids, REAL_TOKENS: real_tokens}
