"""Rows to conversations to token ids."""
