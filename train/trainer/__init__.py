"""The Trainer: complete-or-absent saving, streams, validation losses that count tokens."""
