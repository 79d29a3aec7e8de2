"""Trainer callbacks, one per file, and what they measure with."""
