"""The Trainer, with what pre-training needs and stock does not have."""

import itertools
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.integrations import TensorBoardCallback
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import EvalLoopOutput

from train import checkpoints, disk_space
from train.build_model import build_model
from train.checkpoints import UNFINISHED_FOLDER
from train.data.packing import collate_blocks
from train.data.prepare import PreparedData
from train.graceful_stop import GracefulStop, shield_workers
from train.loss_guard import LossGuard
from train.recipe import RECIPE_FILE, Recipe
from train.refusal import RunRefusedError
from train.text_samples import TextSamples


class CheckpointNotWrittenError(OSError):
    """A checkpoint could not be written; those before it are as they were."""


class PretrainingTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that

    - neither training nor evaluation ever holds the logits of all positions;
    - the held-out loss is the mean over tokens, whatever the batches and processes, and comes with its perplexity;
    - log lines carry the tokens seen and the tokens per second since the last one, without a device sync a step;
    - a checkpoint is complete or absent (see `train.checkpoints`), and carries the recipe;
    - a loss or gradient that is not finite ends the run before it reaches the weights (see `train.loss_guard`);
    - no pickle of the arguments lies beside the model: `recipe.yaml` has them as text.

    Args:
        recipe: what is trained.
        data_name: the SHA-256 of the training tokens; a run goes on only with the same.
    """

    def __init__(self, *args, recipe: Recipe, data_name: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.recipe = recipe
        self.data_name = data_name
        self.guard = LossGuard(recipe.run.loss_spike_score, recipe.run.skip_loss_spikes, self.describe_step)
        self.run_folder = Path(self.args.output_dir)
        self._saving_in: Path | None = None
        self._step_loss: torch.Tensor | None = None
        self._evaluated_batches = 0
        self._held_out: torch.Tensor | None = None  # nats and tokens, summed
        self._last_log_step: int | None = None
        self._last_log_seconds = 0.0

    # Training

    def train(self, resume_from_checkpoint=None, **kwargs):
        if resume_from_checkpoint is not None:
            manifest = checkpoints.read_manifest(Path(resume_from_checkpoint))
            self.guard.recent_losses.extend(manifest["recent_losses"])
            resume_from_checkpoint = str(resume_from_checkpoint)
            self._forget_tensorboard_from(manifest["step"] + 1)
        else:
            self._forget_tensorboard_from(0)  # of a start that was killed before its first checkpoint
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
            {name: group[name] for name in ("weight_decay", "betas", "eps") if name in group}
            for group in self.optimizer.param_groups
        ]
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(self.lr_scheduler, LambdaLR):  # others find their rates as they go
            return
        rate = self.args.learning_rate
        self.lr_scheduler.base_lrs = [rate] * len(self.optimizer.param_groups)
        for group, settings, rate_at in zip(
            self.optimizer.param_groups, kept, self.lr_scheduler.lr_lambdas, strict=True
        ):
            group |= {**settings, "initial_lr": rate, "lr": rate * rate_at(self.lr_scheduler.last_epoch)}
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what the log shows

    def get_train_dataloader(self) -> DataLoader:
        dataloader = super().get_train_dataloader()
        shield_workers(dataloader)
        return dataloader

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

    # Evaluation

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # Training skips them by itself; in evaluation the model would return logits unless told that nobody reads them.
        return super().compute_loss(model, {**inputs, "skip_logits": True}, return_outputs, num_items_in_batch)

    def evaluate_final_model(self) -> dict[str, float]:
        """The held-out figures of the model that training ended with; computed unless its step was evaluated."""
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        step = best or self.state.global_step
        for entry in reversed(self.state.log_history):
            if entry["step"] == step and "eval_loss" in entry:
                return {name: value for name, value in entry.items() if name.startswith("eval_")}
        return self.evaluate()

    def evaluation_loop(self, *args, **kwargs) -> EvalLoopOutput:
        self._evaluated_batches = 0
        self._held_out = torch.zeros(2, device=self.args.device, dtype=torch.float64)
        output = super().evaluation_loop(*args, **kwargs)
        nats, tokens = self.accelerator.reduce(self._held_out, reduction="sum").tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        loss = nats / tokens
        # Beyond e^100 the number says nothing, and math.exp overflows at e^710.
        output.metrics.update({f"{prefix}_loss": loss, f"{prefix}_perplexity": math.exp(min(loss, 100.0))})
        return output

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of one batch; its nats and tokens are added up for the mean over all of them."""
        assert self._held_out is not None
        labels = inputs["labels"].clone()
        # The last batches of several processes are filled up with rows from the beginning, which count once only.
        batch = self._evaluated_batches * self.args.world_size + self.args.process_index
        labels[max(len(self.eval_dataset) - batch * self.args.eval_batch_size, 0) :] = -100
        self._evaluated_batches += 1
        inputs = self._prepare_inputs({**inputs, "labels": labels})
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)  # of this process alone, as no number of items is given
        tokens = (inputs["labels"][:, 1:] != -100).sum()
        self._held_out += torch.stack([torch.where(tokens > 0, loss.double() * tokens, 0.0), tokens.double()])
        return loss, None, None

    # Saving

    def _get_output_dir(self, trial) -> str:
        return str(self._saving_in) if self._saving_in is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        self.guard.settle()
        place = self.run_folder / f"checkpoint-{self.state.global_step}"
        if place.exists():  # at an epoch's end, a step can be saved twice
            return
        self._saving_in = self.run_folder / UNFINISHED_FOLDER
        try:
            with self._all_or_nothing(place):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    self._complete_checkpoint(self._saving_in / place.name)
        finally:
            self._saving_in = None
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _all_or_nothing(self, what: Path) -> Iterator[None]:
        """Leave nothing half-written where writing fails, and say what was needed."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self.run_folder / UNFINISHED_FOLDER, ignore_errors=True)
            needs = disk_space.describe_failure(self.run_folder, disk_space.checkpoint_bytes(self.model))
            raise CheckpointNotWrittenError(
                f"{what} could not be written ({needs}); earlier checkpoints are untouched. {error}"
            ) from error

    def _complete_checkpoint(self, unfinished: Path) -> None:
        """Add what stock leaves out, seal the folder, rename it into place, and let old ones go."""
        best = None
        if self.state.best_global_step:
            best = self.run_folder / f"checkpoint-{self.state.best_global_step}"
            # Stock has looked for it beside the unfinished one.
            self.state.best_model_checkpoint = str(best) if best.exists() or best.name == unfinished.name else None
            self.state.save_to_json(str(unfinished / TRAINER_STATE_NAME))
        (unfinished / RECIPE_FILE).write_text(self.recipe.to_yaml(), encoding="utf-8")
        facts = {
            "step": self.state.global_step,
            "processes": self.args.world_size,
            "sequences_per_step": self.recipe.sequences_per_step,
            "data": self.data_name,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "recent_losses": list(self.guard.recent_losses),
        }
        checkpoints.write_manifest(unfinished, facts)
        checkpoints.put_in_place(unfinished, self.run_folder)
        checkpoints.rotate(self.run_folder, self.args.save_total_limit, best)

    def save_final_model(self) -> None:
        """Write the model into the run folder itself, each file whole or as it was before."""
        if self.is_fsdp_enabled:  # whose shards are for checkpoints; a model that others open is whole
            self.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        with self._all_or_nothing(self.run_folder / "model.safetensors"):
            self.save_model(str(self.run_folder / UNFINISHED_FOLDER))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.move_files(self.run_folder / UNFINISHED_FOLDER, self.run_folder)

    def check_room(self) -> None:
        """Refuse a run whose checkpoints will not fit on the disk.

        Raises:
            RunRefusedError: what is needed and what is free.
        """
        total_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        planned = math.ceil(total_steps / max(self.args.save_steps, 1)) if self.args.save_strategy == "steps" else 1
        # One more than are kept: the oldest goes after the newest is in place.
        kept = min(planned, (self.args.save_total_limit or planned) + 1)
        model_bytes = disk_space.checkpoint_bytes(self.model, optimizer_values=0)
        needed = kept * disk_space.checkpoint_bytes(self.model) + model_bytes
        what = f"{kept} checkpoints and the model"
        disk_space.check_room(self.run_folder, needed, disk_space.folder_bytes(self.run_folder), what)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)

    # Logging

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            step, now = self.state.global_step, time.perf_counter()
            tokens_per_step = self.recipe.tokens_per_step
            logs["tokens_seen"] = step * tokens_per_step
            if self._last_log_step is not None and step > self._last_log_step:
                steps_per_second = (step - self._last_log_step) / (now - self._last_log_seconds)
                logs["tokens_per_second"] = round(steps_per_second * tokens_per_step)
            self._last_log_step, self._last_log_seconds = step, now
        super().log(logs, start_time)

    def _forget_tensorboard_from(self, step: int) -> None:
        """Have TensorBoard drop what an earlier start drew from the step on that comes next."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and self.is_world_process_zero():
                callback.tb_writer = SummaryWriter(callback.logging_dir, purge_step=step)


def build_trainer(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, data: PreparedData, stop: GracefulStop
) -> PretrainingTrainer:
    """The Trainer for a recipe."""
    # Read by the Trainer's TensorBoard callback, whose own choice is a new folder for each start of a run.
    os.environ["TENSORBOARD_LOGGING_DIR"] = tensorboard_folder = str(recipe.run_folder / "tensorboard")
    samples = TextSamples(
        tokenizer,
        recipe.run.sample_prompts or [],
        recipe.run.sample_tokens,
        recipe.run.sample_temperature,
        tensorboard_folder if "tensorboard" in recipe.training.report_to else None,
    )
    # Whole batches only: every step then sees the same number of tokens, whatever the number of processes.
    train_blocks = len(data.train) // recipe.sequences_per_step * recipe.sequences_per_step
    if not train_blocks:
        raise RunRefusedError(
            f"{len(data.train):,} training blocks do not fill one batch of {recipe.sequences_per_step:,}: lower "
            "--per_device_train_batch_size, --gradient_accumulation_steps or --block_size, or give more rows."
        )
    eval_blocks = min(len(data.validation), recipe.data.max_eval_blocks or len(data.validation))
    return PretrainingTrainer(
        model=build_model(recipe, tokenizer),
        args=recipe.training,
        train_dataset=data.train.select(range(train_blocks)),
        eval_dataset=data.validation.select(range(eval_blocks)),
        data_collator=collate_blocks,
        processing_class=tokenizer,
        callbacks=[stop, samples],
        recipe=recipe,
        data_name=data.ledger.sha256["train"],
    )
