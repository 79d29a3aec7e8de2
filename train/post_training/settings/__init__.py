"""Settings of a post-training run: arguments, recipe, checks."""
