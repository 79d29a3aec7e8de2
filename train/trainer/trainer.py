"""The Trainer of every run, with what pre- and post-training need and the stock Trainer does not have."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers import ProgressCallback, get_scheduler
from transformers.integrations import TensorBoardCallback

from modeling_gpt2scratch.loading import count_ids, load_whole_model
from train.callbacks.current_settings import CurrentSettings
from train.callbacks.graceful_stop import shield_workers
from train.callbacks.loss_guard import LossGuard
from train.callbacks.progress import Progress
from train.callbacks.tensorboard import RunTensorBoard
from train.callbacks.throughput import Throughput
from train.checkpointing import checkpoints
from train.errors import RunFailedError
from train.optim.parameter_groups import build_optimizer
from train.optim.schedules import schedule_options
from train.run_files import TENSORBOARD_FOLDER, WEIGHTS_INDEX, WEIGHTS_PATTERN
from train.settings.arguments import OptimizerArguments
from train.sharding import keep_state_whole, let_go_of_whole_weights, to_whole
from train.trainer.sharding import ShardingTrainer


COMPARED_EXAMPLES = 4  # of the saved model and the trained one
# Relative differences of loss that are rounding: sums in another order; and attention of another kind in 16 bits.
SAME_LOSS, SAME_LOSS_IN_16_BITS = 1e-4, 5e-3


class RunTrainer(ShardingTrainer):
    """Identical to `transformers.Trainer`, or to the trainer that it is combined with, except for saving and
    sharding (see `SavingTrainer` and `ShardingTrainer`), and that

    - the optimizer has a learning rate for each kind of weight (see `train.optim.parameter_groups`);
    - a loss or gradient that is not finite ends the run before it reaches the weights (see `callbacks.loss_guard`);
    - log lines have the run's throughput (see `train.callbacks.throughput`);
    - a resumed run that has nothing left to train takes no further step, and none warns of a tied weight, which is
      saved once;
    - the final model is opened once more and compared with the trained one.

    One private method is overridden, `_get_grad_norm`: no callback sees the loss, or the gradient norm before clipping,
    ahead of the optimizer step.
    """

    optimizer: Any  # as the parents make them, once training starts
    lr_scheduler: Any

    def __init__(
        self,
        *args,
        optimizer_settings: OptimizerArguments,
        spike_score: float,
        skip_spikes: bool,
        flops_per_token: int | None = None,  # arithmetic of training on a token; no MFU is logged without it
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.optimizer_settings = optimizer_settings
        # A batch is on its way to the device while the host goes on; it would wait for the whole step before, too.
        self.accelerator.dataloader_config.non_blocking = self.args.dataloader_pin_memory
        self.model.register_load_state_dict_post_hook(_forget_tied_weights)
        self._step_loss: torch.Tensor | None = None
        if self.pop_callback(ProgressCallback) is not None:  # none where --disable_tqdm is on
            self.add_callback(Progress())
        if self.pop_callback(TensorBoardCallback) is not None:
            self.add_callback(RunTensorBoard(self.run_folder / TENSORBOARD_FOLDER))
        self.current_settings = CurrentSettings()
        self.guard = LossGuard(spike_score, skip_spikes, self.describe_step)
        self.throughput = Throughput(self.args, flops_per_token)
        for callback in (self.current_settings, self.guard, self.throughput):
            self.add_callback(callback)

    def train(self, resume_from_checkpoint: Path | None = None, **kwargs):
        if resume_from_checkpoint is not None:
            self.guard.recent_losses.extend(checkpoints.read_manifest(resume_from_checkpoint)["recent_losses"])
            kwargs["resume_from_checkpoint"] = str(resume_from_checkpoint)
        return super().train(**kwargs)

    def manifest_facts(self) -> dict[str, Any]:
        return {**super().manifest_facts(), "recent_losses": list(self.guard.recent_losses)}

    def create_optimizer(self, model=None) -> Optimizer:
        if self.optimizer is None:
            let_go_of_whole_weights(self.model)
            if self.optimizer_settings.differs_from_stock or self.get_tp_size() > 1:
                model = self.model if model is None else model
                decayed = self.get_decay_parameter_names(model)
                self.optimizer = build_optimizer(model, decayed, training=self.args, settings=self.optimizer_settings)
            else:
                self.optimizer = super().create_optimizer(model)
            if self.is_sharded:
                keep_state_whole(self.optimizer)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            schedule, options = self.args.lr_scheduler_type, self.args.lr_scheduler_kwargs
            self.lr_scheduler = get_scheduler(
                schedule,
                optimizer=self.optimizer if optimizer is None else optimizer,
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_training_steps=num_training_steps,
                scheduler_specific_kwargs=schedule_options(
                    schedule, options, self.optimizer_settings.decay_steps, num_training_steps
                ),
            )
            self.current_settings.note(self.optimizer)
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        return shield_workers(super().get_train_dataloader())

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        if self.state.global_step >= self.state.max_steps:  # resumed at the end: the stock loop would take a step more
            return [], None
        with self.throughput.waiting_for_data():
            return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss = loss if self._step_loss is None else self._step_loss + loss
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """The stock norm; by it and the step's loss, the guard judges the step."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        if self.is_sharded:
            grad_norm = to_whole(grad_norm)
        loss, self._step_loss = self._step_loss, None
        assert loss is not None
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss, reduction="mean")
        # In fp16 an infinite gradient is the loss scale's business, which leaves such steps out by itself.
        norm = torch.zeros_like(loss) if self.args.fp16 else torch.as_tensor(grad_norm, device=loss.device)
        if not self.guard.allows(self.state.global_step + 1, loss, norm):
            model.zero_grad()  # the optimizer passes over weights without a gradient: momentum and decay stay, too
        return grad_norm

    def describe_step(self, step: int) -> str:
        """The rows of a step and its learning rate, in words."""
        return f"{self.describe_rows(step)}; learning rate {self.optimizer.param_groups[0]['lr']:.3g}"

    def describe_rows(self, step: int) -> str:
        return f"training sequences {', '.join(map(str, sorted(self.rows_of_step(step))))}"

    def rows_of_step(self, step: int) -> list[int]:
        """The numbers of the training sequences that this process sees in a step."""
        dataloader = self.get_train_dataloader()
        accumulated = self.args.gradient_accumulation_steps
        steps_in_epoch = max(len(dataloader) // accumulated, 1)
        epoch, step_in_epoch = divmod(step - 1, steps_in_epoch)
        # As the Trainer does, which reaches for the sampler behind the one that shares batches among processes.
        behind = getattr(dataloader.batch_sampler, "batch_sampler", None)
        for sampler in (dataloader, dataloader.batch_sampler, behind):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)
        first = step_in_epoch * accumulated
        assert dataloader.batch_sampler is not None
        batches = itertools.islice(dataloader.batch_sampler, first, first + accumulated)
        return [row for batch in batches for row in batch]

    def tokens_seen(self) -> int:
        """Training tokens up to now, of all processes and starts; called by all processes."""
        raise NotImplementedError

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.throughput.describe(self.state, self.tokens_seen())
        super().log(logs, start_time)

    def evaluate_final_model(self) -> dict[str, float]:
        """The validation figures of the model that training ended with; computed unless its step was evaluated."""
        loads_best = self.args.load_best_model_at_end and self.state.best_model_checkpoint
        step = self.state.best_global_step if loads_best else self.state.global_step
        for entry in reversed(self.state.log_history):
            if entry["step"] == step and "eval_loss" in entry:
                return {name: value for name, value in entry.items() if name.startswith("eval_")}
        return self.evaluate()

    def save_checked_model(self) -> None:
        """Write the final model, and open it as others will; a `RunFailedError` where it is not whole, or has another
        loss than the model that was trained."""
        # Before saving, which merges adapters. Sharded weights need all processes.
        trained = self._loss_of_few(self.model)
        self.save_final_model()
        if not self.args.should_save:
            return
        try:
            saved = self._loss_of_few(load_whole_model(self.run_folder).to(self.args.device))
            allowed = SAME_LOSS if self.accelerator.mixed_precision == "no" else SAME_LOSS_IN_16_BITS
            if not abs(saved - trained) <= allowed * max(1.0, trained):  # so written, NaN fails, too
                raise ValueError(f"its loss is {saved:.4f}, and that of the trained model {trained:.4f}")
        except (OSError, ValueError) as error:
            for file in [*self.run_folder.glob(WEIGHTS_PATTERN), self.run_folder / WEIGHTS_INDEX]:
                file.unlink(missing_ok=True)
            raise RunFailedError(
                f"The saved model is not the trained one ({error}), so its weights in {self.run_folder} were removed; "
                "the checkpoints are as they were."
            ) from error

    @torch.no_grad()
    def _loss_of_few(self, model: torch.nn.Module) -> float:
        """Nats per token of a few validation examples, which are read one by one."""
        was_training, losses = model.training, []
        # Without the ids that only fill the vocabulary up, which the saved model lacks.
        known = None if self.processing_class is None else count_ids(self.processing_class)
        model.eval()
        with self.accelerator.autocast():
            for row in range(min(COMPARED_EXAMPLES, len(self.eval_dataset))):
                ids = torch.tensor([self.validation_ids(row)], device=self.args.device)
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1, :known].float()
                losses.append(cross_entropy(logits, ids[0, 1:]))
        model.train(was_training)
        return torch.stack(losses).mean().item()

    def validation_ids(self, row: int) -> list[int]:
        """The tokens of a validation example."""
        return [int(token) for token in self.eval_dataset[row]["input_ids"]]


def _forget_tied_weights(model: torch.nn.Module, incompatible_keys: Any) -> None:
    tied = getattr(model, "all_tied_weights_keys", {})
    incompatible_keys.missing_keys[:] = [name for name in incompatible_keys.missing_keys if name not in tied]
