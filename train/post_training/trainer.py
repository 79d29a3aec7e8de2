"""The part that the trainers of sft, dpo and grpo share."""

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.checkpointing import checkpoints
from train.run_files import ADAPTER_FOLDER, UNFINISHED_FOLDER
from train.trainer.trainer import RunTrainer


REAL_TOKENS = "real_tokens"  # how many tokens of a batch are no padding: for the log, and not for the model


class PostTrainingTrainer(RunTrainer):
    """Stands before one of TRL's trainers among the parents of a class. Identical to that trainer, except for what
    `RunTrainer` changes, and that

    - log lines count the tokens seen, without padding, over all starts of a run;
    - saved models have no padding token: TRL pads with the end-of-text token, and later trainers that ignore padding
      would never teach the end of a text;
    - no model card is written, as publishing makes one;
    - with LoRA, the final model is the merged one, and the adapter lies beside it.
    """

    processing_class: PreTrainedTokenizerBase
    model: Any

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._uncounted = torch.zeros((), dtype=torch.int64, device=self.args.device)

    @property
    def whole_model(self) -> PreTrainedModel:
        """The model itself, without the adapters' wrapping."""
        return self.model.get_base_model() if is_peft_model(self.model) else self.model

    def count_tokens(self, batch: dict) -> int | torch.Tensor:
        """The tokens of a batch, padding left out; without making a device wait."""
        if REAL_TOKENS in batch:
            return batch.pop(REAL_TOKENS)
        return batch["attention_mask"].sum() if "attention_mask" in batch else batch["input_ids"].numel()

    def get_batch_samples(self, *args, **kwargs):
        batches, items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self._uncounted += self.count_tokens(batch)
        return batches, items

    def tokens_seen(self) -> int:
        self.state.num_input_tokens_seen += int(self.accelerator.reduce(self._uncounted.clone(), reduction="sum"))
        self._uncounted.zero_()
        return self.state.num_input_tokens_seen

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        self.tokens_seen()  # into the Trainer's state, which a checkpoint saves next
        self.processing_class.pad_token = None
        self.whole_model.config.pad_token_id = self.whole_model.generation_config.pad_token_id = None
        super().save_model(output_dir, _internal_call)
        if is_peft_model(self.model) and self.args.should_save:  # PEFT's card, which names a local path
            Path(output_dir or self.args.output_dir, "README.md").unlink(missing_ok=True)
        self.processing_class.pad_token = self.processing_class.eos_token

    def create_model_card(self, *args, **kwargs) -> None:
        """Nothing: `hub_card` writes the card, from the run's own files."""

    def save_final_model(self) -> None:
        if is_peft_model(self.model):
            # The adapter has a folder of its own: beside the merged model, libraries would add it once more.
            unfinished, place = self.run_folder / UNFINISHED_FOLDER, self.run_folder / ADAPTER_FOLDER
            with self.removing_unfinished(place):
                self.save_model(str(unfinished))
                self.accelerator.wait_for_everyone()
                if self.args.should_save:
                    place.mkdir(exist_ok=True)
                    checkpoints.move_files(unfinished, place)
            self.model = self.model.merge_and_unload()
        super().save_final_model()
