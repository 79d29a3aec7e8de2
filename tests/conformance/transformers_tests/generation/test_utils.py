"""Stand-in: the source distribution has no generation tests. Ours are `tests/modeling_gpt2scratch/test_generation.py`,
which hold every way of generating to the very tokens of Hugging Face's GPT-2."""


class GenerationTesterMixin:
    """No tests."""
