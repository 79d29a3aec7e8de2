"""For each process: one optimizer step and one evaluation on rows of unequal label counts, eight sequences a step."""

from pathlib import Path

import torch
from datasets import Dataset
from transformers import TrainerCallback

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.data.sequences.packing import collate_sequences
from train.settings.recipe import parse_recipe
from train.trainer.pretraining import PretrainingTrainer


class Gradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        model = getattr(model, "module", model)
        self.found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def collate_unequal(examples):
    batch = collate_sequences(examples)
    labels = batch["input_ids"].clone()
    for row in labels:
        row[int(row[0]) % 14 + 2 :] = -100
    return {**batch, "labels": labels}


def train_a_step(result: Path, batch: int, accumulated: int, recipe_file: Path) -> int:
    settings = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulated,
        "per_device_eval_batch_size": 2,
        "max_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "max_grad_norm": 0,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    recipe = parse_recipe(["--config", str(recipe_file), *words])
    torch.manual_seed(0)
    blocks = Dataset.from_dict({"input_ids": torch.randint(500, (13, 16)).tolist()}).with_format("numpy")
    config = GPT2ScratchConfig(
        vocab_size=500, n_layer=1, n_head=2, n_embd=16, n_positions=16, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0
    )
    gradients = Gradients()
    trainer = PretrainingTrainer(
        model=GPT2ScratchForCausalLM(config),
        args=recipe.training,
        train_dataset=blocks.select(range(8)),
        eval_dataset=blocks,  # 13 rows: the last round of two processes is filled up
        data_collator=collate_unequal,
        callbacks=[gradients],
        sequence_tokens=16,
        data_name="test",
        **recipe.trainer_values(),
    )
    trainer.train()
    validation = trainer.evaluate()[
        "eval_loss"
    ]  # not before: stock then leaves out what shares gradients among processes
    if trainer.is_world_process_zero():
        (loss,) = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        torch.save({"loss": loss, "validation": validation, "gradients": gradients.found}, result)
    trainer.accelerator.end_training()
    return 0
