"""The model to evaluate, and what its recipe tells of its training."""
