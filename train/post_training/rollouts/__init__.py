"""The model's own answers, sampled and verified."""
