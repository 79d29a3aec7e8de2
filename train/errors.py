"""A run that must not start."""


class RunRefusedError(ValueError):
    """Refused before the first step, for a reason that the message names, together with what to do."""
