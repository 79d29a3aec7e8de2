"""The two sides of a case: this model under this Trainer, and transformers' GPT-2 under transformers' Trainer."""

import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, default_data_collator

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.benchmark.cases import Case
from train.data.sequences.packing import collate_sequences
from train.hardware import set_up_model
from train.settings.arguments import OptimizerArguments, RunArguments
from train.settings.recipe import TRAINING_DEFAULTS
from train.trainer.pretraining import PretrainingTrainer


def build_trainer(side: str, case: Case, processes: int, folder: str) -> Trainer:
    """The Trainer of a side; both train on the same random tokens."""
    sequences = case.batch * processes * max(4, case.steps_per_turn)  # more than enough for all steps
    tokens = torch.randint(50_257, (sequences, case.length))
    data = Dataset.from_dict({"input_ids": tokens.tolist()}).with_format("numpy")
    training = {
        "output_dir": folder,
        "max_steps": case.turns * case.steps_per_turn,
        "per_device_train_batch_size": case.batch,
        "per_device_eval_batch_size": case.batch,
        "learning_rate": 3e-4,
        "max_grad_norm": 1.0,
        "logging_steps": 1 if case.steps_per_turn == 1 else 10,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": case.precision == "bfloat16",
        "fp16": case.precision == "float16",
        "torch_compile": case.compiled,
        "prediction_loss_only": True,  # the stock Trainer would keep the logits of the whole evaluation
        "use_cpu": not torch.accelerator.is_available(),
        "dataloader_pin_memory": torch.accelerator.is_available(),
    }
    build = build_ours if side == "ours" else build_theirs
    validation = data.select(range(case.batch * processes))
    return build(case, train=data, validation=validation, training=training)


def build_ours(case: Case, train: Dataset, validation: Dataset, training: dict) -> Trainer:
    """As `train/pretrain.py` sets up model and Trainer."""
    arguments = TrainingArguments(**{**TRAINING_DEFAULTS, **training})
    config = GPT2ScratchConfig(**case.model_settings)
    model = GPT2ScratchForCausalLM._from_config(config, attn_implementation=case.attn_implementation)
    set_up_model(model, arguments.device, case.compiled)
    return PretrainingTrainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=validation,
        data_collator=collate_sequences,
        sequence_tokens=case.length,
        data_name="benchmark",
        recipe_text="",
        optimizer_settings=OptimizerArguments(),
        spike_score=RunArguments().loss_spike_score,
        async_save=False,
        sharding=None,
        skip_spikes=False,
    )


def build_theirs(case: Case, train: Dataset, validation: Dataset, training: dict) -> Trainer:
    """As users of transformers set up model and Trainer."""
    data = [
        part.map(lambda batch: {"labels": batch["input_ids"]}, batched=True).with_format("torch")
        for part in (train, validation)
    ]
    return Trainer(
        model=GPT2LMHeadModel._from_config(
            GPT2Config(**case.model_settings), attn_implementation=case.attn_implementation
        ),
        args=TrainingArguments(**training),
        train_dataset=data[0],
        eval_dataset=data[1],
        data_collator=default_data_collator,
    )
