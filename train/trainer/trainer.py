"""The Trainer, with what pre-training needs and stock does not have."""

import itertools
import os
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedTokenizerBase, ProgressCallback, get_scheduler
from transformers.integrations import TensorBoardCallback

from train.build_model import build_model
from train.callbacks.graceful_stop import GracefulStop, shield_workers
from train.callbacks.loss_guard import LossGuard
from train.callbacks.progress import Progress
from train.callbacks.text_samples import TextSamples
from train.callbacks.throughput import Throughput
from train.checkpointing import checkpoints
from train.data.training_data import TrainingData
from train.hardware import return_freed_memory
from train.optim.parameter_groups import build_optimizer
from train.optim.schedules import schedule_options
from train.run_files import TENSORBOARD_FOLDER
from train.settings.recipe import Recipe, RunRecipe
from train.trainer.evaluating import EvaluationTrainer
from train.trainer.saving import SavingTrainer
from train.trainer.streaming import StreamingTrainer


class RunTrainer(SavingTrainer):
    """Identical to `transformers.Trainer`, or to what it is combined with, except for saving (see the parent), and that

    - the optimizer has a learning rate for each kind of weight (see `train.optim.parameter_groups`);
    - a loss or gradient that is not finite ends the run before it reaches the weights (see `callbacks.loss_guard`);
    - log lines tell how far, how fast and how long still (see `train.callbacks.throughput`).

    Args:
        recipe: what is trained.
        data_name: the SHA-256 of the training tokens; a run goes on only with the same.
    """

    optimizer: Any  # as the parents make them, once training starts
    lr_scheduler: Any

    def __init__(self, *args, recipe: RunRecipe, data_name: str, **kwargs):
        super().__init__(*args, recipe=recipe, data_name=data_name, **kwargs)
        self.guard = LossGuard(recipe.run.loss_spike_score, recipe.run.skip_loss_spikes, self.describe_step)
        if self.pop_callback(ProgressCallback) is not None:  # none where --disable_tqdm is on
            self.add_callback(Progress())
        self.throughput = Throughput(self.model, self.args, recipe.sequence_tokens, recipe.tokens_per_step)
        self._step_loss: torch.Tensor | None = None

    def train(self, resume_from_checkpoint=None, **kwargs):
        if resume_from_checkpoint is not None:
            manifest = checkpoints.read_manifest(Path(resume_from_checkpoint))
            self.guard.recent_losses.extend(manifest["recent_losses"])
            resume_from_checkpoint = str(resume_from_checkpoint)
            self._forget_tensorboard_from(manifest["step"] + 1)
        else:
            self._forget_tensorboard_from(0)  # of a start that was killed before its first checkpoint
        self.throughput.begin()
        output = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        self.guard.settle()
        return output

    def _run_epoch(self, *args, **kwargs) -> None:
        # A run that was killed after its last step has nothing left to train; stock would take one step more.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _load_optimizer_and_scheduler(self, checkpoint) -> None:
        """As stock, but the recipe's settings hold: a checkpoint brings its own back, and a change would do nothing."""
        kept = [
            {name: value for name, value in group.items() if name != "params"} for group in self.optimizer.param_groups
        ]
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(self.lr_scheduler, LambdaLR):  # others find their rates as they go
            return
        self.lr_scheduler.base_lrs = [settings["initial_lr"] for settings in kept]
        for group, settings, rate_at in zip(
            self.optimizer.param_groups, kept, self.lr_scheduler.lr_lambdas, strict=True
        ):
            group |= {**settings, "lr": settings["initial_lr"] * rate_at(self.lr_scheduler.last_epoch)}
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what the log shows

    def create_optimizer(self, model=None) -> Optimizer:
        if not self.recipe.optimizer.differs_from_stock:
            return super().create_optimizer(model)
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = self.get_decay_parameter_names(model)
            self.optimizer = build_optimizer(model, decayed, self.args, self.recipe.optimizer)
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
                    schedule, options, self.recipe.optimizer.decay_steps, num_training_steps
                ),
            )
        return self.lr_scheduler

    def get_train_dataloader(self) -> DataLoader:
        dataloader = super().get_train_dataloader()
        shield_workers(dataloader)
        return dataloader

    def get_batch_samples(self, *args, **kwargs):
        with self.throughput.clock.waiting_for_data():
            return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss = loss if self._step_loss is None else self._step_loss + loss
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        """Called once a step, between backward pass and optimizer."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        loss, self._step_loss = self._step_loss, None
        assert loss is not None
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss, reduction="mean")
        # In fp16 an infinite gradient is the loss scale's business, which leaves such steps out by itself.
        norm = torch.zeros_like(loss) if self.args.fp16 else torch.as_tensor(grad_norm, device=loss.device)
        if isinstance(norm, DTensor):  # under FSDP
            norm = norm.full_tensor()
        if not self.guard.observe(self.state.global_step + 1, loss, norm):
            for parameter in model.parameters():
                parameter.grad = None  # the optimizer passes over it: weight, momentum and decay stay
        return grad_norm

    def describe_step(self, step: int) -> str:
        """The rows of a step and its learning rate, in words."""
        rows = sorted(self.rows_of_step(step))
        return f"training blocks {', '.join(map(str, rows))}; learning rate {self._get_learning_rate():.3g}"

    def rows_of_step(self, step: int) -> list[int]:
        """The numbers of the training blocks that this process sees in a step."""
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

    def _evaluate(self, *args, **kwargs):
        with self.throughput.clock.paused():
            return super()._evaluate(*args, **kwargs)

    def evaluate_final_model(self) -> dict[str, float]:
        """The held-out figures of the model that training ended with; computed unless its step was evaluated."""
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        step = best or self.state.global_step
        for entry in reversed(self.state.log_history):
            if entry["step"] == step and "eval_loss" in entry:
                return {name: value for name, value in entry.items() if name.startswith("eval_")}
        return self.evaluate()

    def _save_checkpoint(self, model, trial) -> None:
        with self.throughput.clock.paused():
            super()._save_checkpoint(model, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self.describe_progress()
        super().log(logs, start_time)

    def describe_progress(self) -> dict[str, float]:
        """The figures of a log line beside loss and learning rate."""
        return self.throughput.describe(self.state.global_step, self.state.max_steps, self.state.log_history)

    def _forget_tensorboard_from(self, step: int) -> None:
        """Have TensorBoard drop what an earlier start drew from the step on that comes next."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and self.is_world_process_zero():
                callback.tb_writer = SummaryWriter(callback.logging_dir, purge_step=step)


class PretrainingTrainer(RunTrainer, StreamingTrainer, EvaluationTrainer):
    """A `RunTrainer` on blocks, prepared or streamed (see the parents)."""

    def describe_step(self, step: int) -> str:
        if self.is_streaming:
            return f"{self.describe_streams()}; learning rate {self._get_learning_rate():.3g}"
        return super().describe_step(step)


def build_trainer(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, data: TrainingData, stop: GracefulStop
) -> PretrainingTrainer:
    """The Trainer for a recipe."""
    # Read by the Trainer's TensorBoard callback, whose own choice is a new folder for each start of a run.
    os.environ["TENSORBOARD_LOGGING_DIR"] = tensorboard_folder = str(recipe.run_folder / TENSORBOARD_FOLDER)
    samples = TextSamples(
        tokenizer,
        recipe.run.sample_prompts or [],
        recipe.run.sample_tokens,
        recipe.run.sample_temperature,
        tensorboard_folder if "tensorboard" in recipe.training.report_to else None,
    )
    model = build_model(recipe, tokenizer)
    return_freed_memory(model)
    return PretrainingTrainer(
        model=model,
        args=recipe.training,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
        processing_class=tokenizer,
        callbacks=[stop, samples],
        recipe=recipe,
        data_name=data.name,
    )
