"""Checkpoints: complete or absent, resumed exactly, one run per folder."""
