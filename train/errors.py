"""The two ways in which a run ends with a message: it does not start, or it cannot go on."""


class RunRefusedError(ValueError):
    """Refused before the first step, for a reason that the message names, together with what to do."""


class RunFailedError(RuntimeError):
    """Ended during training, for a reason that the message names; the checkpoints so far are as they were."""


def in_one_line(error: Exception) -> str:
    """The message of a refusal, as the last line of a command."""
    return " ".join(str(error).split())
