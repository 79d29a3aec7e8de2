"""Stand-in: the source distribution has no generation tests. Ours are `tests/modeling_gpt2scratch/test_generation.py`,
which hold every way of generating to stock GPT-2's very tokens."""


class GenerationTesterMixin:
    """No tests."""
