"""The tokenizer of a run: opened and checked, or trained on one's own text."""
