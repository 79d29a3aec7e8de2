"""The Trainer, with the little that pre-training needs and stock does not have."""

import math
import os
import time
from pathlib import Path

from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import EvalLoopOutput

from train.build_model import build_model
from train.data.packing import collate_blocks
from train.data.prepare import PreparedData
from train.graceful_stop import GracefulStop
from train.recipe import Recipe
from train.text_samples import TextSamples


class PretrainingTrainer(Trainer):
    """Identical to `transformers.Trainer`, except that

    - neither training nor evaluation ever holds the logits of all positions;
    - evaluation reports perplexity beside the loss;
    - log lines carry the tokens seen and the tokens per second since the last one, without a device sync a step;
    - no pickle of the arguments lies beside the model: `recipe.yaml` has them as text.

    Args:
        tokens_per_step: tokens that one optimizer step sees, over all processes.
    """

    def __init__(self, *args, tokens_per_step: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.tokens_per_step = tokens_per_step
        self._last_log_step: int | None = None
        self._last_log_seconds = 0.0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        # Training skips them by itself; in evaluation the model would return logits unless told that nobody reads them.
        if self.args.prediction_loss_only:
            inputs = {**inputs, "skip_logits": True}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def evaluation_loop(self, *args, **kwargs) -> EvalLoopOutput:
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        # Beyond e^100 the number says nothing, and math.exp overflows at e^710.
        output.metrics[f"{prefix}_perplexity"] = math.exp(min(output.metrics[f"{prefix}_loss"], 100.0))
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            Path(output_dir or self.args.output_dir, TRAINING_ARGS_NAME).unlink(missing_ok=True)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            step, now = self.state.global_step, time.perf_counter()
            logs["tokens_seen"] = step * self.tokens_per_step
            if self._last_log_step is not None and step > self._last_log_step:
                steps_per_second = (step - self._last_log_step) / (now - self._last_log_seconds)
                logs["tokens_per_second"] = round(steps_per_second * self.tokens_per_step)
            self._last_log_step, self._last_log_seconds = step, now
        super().log(logs, start_time)


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
        raise ValueError(
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
        tokens_per_step=recipe.tokens_per_step,
    )
