import math

import pytest
import torch
from datasets import Dataset
from transformers import TrainingArguments

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.data.packing import collate_blocks
from train.trainer import PretrainingTrainer


VOCABULARY, BLOCK = 5000, 64


@pytest.fixture
def trainer(tmp_path):
    torch.manual_seed(0)
    blocks = Dataset.from_dict({"input_ids": torch.randint(VOCABULARY, (48, BLOCK)).tolist()}).with_format("numpy")
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        prediction_loss_only=True,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        max_steps=3,
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
    )
    config = GPT2ScratchConfig(
        vocab_size=VOCABULARY, n_layer=1, n_head=2, n_embd=16, n_positions=BLOCK, bos_token_id=0, eos_token_id=0
    )
    return PretrainingTrainer(
        model=GPT2ScratchForCausalLM(config),
        args=arguments,
        train_dataset=blocks,
        eval_dataset=blocks,
        data_collator=collate_blocks,
        tokens_per_step=16 * BLOCK,
    )


def test_evaluation_is_the_mean_over_tokens_and_its_perplexity(trainer):
    metrics = trainer.evaluate()
    model = trainer.model.eval()
    ids = torch.tensor(trainer.eval_dataset["input_ids"][:])
    with torch.no_grad():
        expected = model(ids, labels=ids).loss.item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)


@pytest.mark.parametrize("batch_size", [5, 48])
def test_the_evaluation_batch_does_not_change_the_loss(trainer, batch_size):
    expected = trainer.evaluate()["eval_loss"]
    trainer.args.per_device_eval_batch_size = batch_size
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_neither_training_nor_evaluation_holds_all_logits(trainer, largest_tensor):
    all_logits = 16 * BLOCK * VOCABULARY
    with largest_tensor() as largest:
        trainer.train()
        trainer.evaluate()
    assert 0 < largest.elements <= all_logits // 2


def test_log_lines_carry_tokens_and_their_rate(trainer):
    trainer.train()
    lines = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [line["tokens_seen"] for line in lines] == [16 * BLOCK * step for step in (1, 2, 3)]
    assert all(line["tokens_per_second"] > 0 for line in lines[1:])
