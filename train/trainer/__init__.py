"""The Trainer, with what stock does not have: complete-or-absent saving, streams, token-exact evaluation."""
