"""Data: rows of SYNTH become sequences of tokens, prepared on disk or streamed; see README.md."""
