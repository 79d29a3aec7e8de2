"""The model card: what a run folder says of its run, as Markdown with metadata."""
