"""Loss, perplexity and bits per byte of validation rows."""
