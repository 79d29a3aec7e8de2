"""Intervals of figures, and tests between two models."""
