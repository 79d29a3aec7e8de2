"""Rows: schema, filter, decontamination, statistics."""
