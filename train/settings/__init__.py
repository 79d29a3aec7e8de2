"""Settings of a run: arguments, recipe (defaults < YAML < command line), checks."""
