"""Experiments that can be run again; README.md is their log."""
