"""Learning-rate schedules."""

import json
import math
from typing import Any


def schedule_options(schedule: str, options: dict | str | None, decay_steps: float, total_steps: int) -> dict[str, Any]:
    """The options of transformers' `get_scheduler` beside warmup and length; those given, also as JSON, win.
    `decay_steps` are those over which `warmup_stable_decay` falls at its end; below 1, a share of the run."""
    given = json.loads(options) if isinstance(options, str) else dict(options or {})
    if schedule == "warmup_stable_decay":
        steps = math.ceil(total_steps * decay_steps) if decay_steps < 1 else int(decay_steps)
        return {"num_decay_steps": steps, **given}
    return given
