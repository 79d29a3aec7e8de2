"""After a resume, optimizer settings and places are those of this start, not those in the checkpoint."""

from pathlib import Path

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback


class CurrentSettings(TrainerCallback):
    """Puts the optimizer's settings back that loading a checkpoint has replaced by its own: without it, a learning rate
    or weight decay that was changed for the resumed part of a run would have no effect. Looks for the best checkpoint
    in this run's folder: the one that the checkpoint names may have been moved, or be that of another copy."""

    def __init__(self) -> None:
        self._settings: list[dict] = []

    def note(self, optimizer: Optimizer) -> None:
        """Remember the settings of each parameter group, before a checkpoint is loaded."""
        self._settings = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]

    def on_train_begin(self, args, state, control, optimizer, lr_scheduler, **kwargs) -> None:
        if state.best_global_step:
            best = Path(args.output_dir, f"checkpoint-{state.best_global_step}")
            state.best_model_checkpoint = str(best) if best.exists() else None
        # Other schedules than LambdaLR find their rates as they go.
        if state.global_step == 0 or not isinstance(lr_scheduler, LambdaLR):
            return
        lr_scheduler.base_lrs = [settings["initial_lr"] for settings in self._settings]
        lambdas = lr_scheduler.lr_lambdas
        for group, settings, rate_at in zip(optimizer.param_groups, self._settings, lambdas, strict=True):
            group |= {**settings, "lr": settings["initial_lr"] * rate_at(lr_scheduler.last_epoch)}
        lr_scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # the rate that the log shows
