"""Checks before an upload: what is staged works in a process that does not have this project."""
