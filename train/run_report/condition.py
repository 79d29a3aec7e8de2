"""What has become of a run."""

from dataclasses import dataclass

from train.run_report.run_record import RunFiles, last_step


@dataclass(frozen=True)
class Condition:
    """
    Args:
        name: "training", "evaluating", "finished", "stopped", "failed" or "interrupted".
        text: the same for people.
        detail: what to know or to do; empty where there is nothing.
    """

    name: str
    text: str
    detail: str = ""

    @property
    def is_live(self) -> bool:
        """Whether there is more to come by itself."""
        return self.name in ("training", "evaluating")


def find_condition(run: RunFiles) -> Condition:
    """What the run last said of itself; of one that was killed in the middle, and so could not say it, that."""
    step = max(last_step(run.log), run.record.get("step", 0))
    said = run.record.get("condition")
    if said is None:  # older than the report
        said = "training" if run.is_held else "finished" if run.results else "interrupted"
    elif said in ("training", "evaluating") and not run.is_held:
        said = "finished" if run.results and step == run.total_steps else "interrupted"
    go_on = "Add --resume_from_checkpoint true to the command to go on."
    return {
        "training": Condition("training", "training"),
        "evaluating": Condition("evaluating", "trained, being evaluated"),
        "finished": Condition("finished", "finished"),
        "stopped": Condition("stopped", f"stopped at step {step:,}", go_on),
        "failed": Condition("failed", f"ended by an error after step {step:,}", run.record.get("reason", "")),
        "interrupted": Condition(
            "interrupted", f"ended without a word after step {step:,}", f"It was killed, or its machine. {go_on}"
        ),
    }[said]
