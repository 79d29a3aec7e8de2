"""lm-eval tasks, and GPT-2's published figures on them."""
