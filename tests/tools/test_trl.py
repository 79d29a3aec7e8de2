"""TRL's trainers: supervised fine-tuning in its forms, preference (DPO), and reinforcement (GRPO)."""

import math

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer


ROWS = [
    ("What is the capital city of Japan?", "Kyoto, once"),
    ("How many legs has a spider?", "Eight, two more than an insect"),
    ("Which gas do plants take in?", "Carbon dioxide"),
    ("Who wrote Hamlet?", "The bard of Avon did"),
]
TEXT = Dataset.from_list([{"text": f"Q: {question}\n\nA: {answer}<|endoftext|>"} for question, answer in ROWS])
COMPLETION = Dataset.from_list(
    [{"prompt": f"Q: {question}", "completion": f"\n\nA: {answer}<|endoftext|>"} for question, answer in ROWS]
)
CHAT = Dataset.from_list(
    [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in ROWS
    ]
)
PREFERENCE = Dataset.from_list(
    [
        {"prompt": f"Q: {question}", "chosen": f"\n\nA: {answer}<|endoftext|>", "rejected": "\n\nA: No<|endoftext|>"}
        for question, answer in ROWS
    ]
)
SFT_FORMS = {
    "plain": (TEXT, {}),
    "packed": (TEXT, {"packing": True, "packing_strategy": "bfd", "max_length": 64}),
    "padding-free": (TEXT, {"padding_free": True, "max_length": None}),
    "completion only": (COMPLETION, {"completion_only_loss": True}),
    "chat": (CHAT, {}),
    "assistant only": (CHAT, {"assistant_only_loss": True}),
    "gradient checkpointing": (TEXT, {"gradient_checkpointing": True}),
    "bf16": (TEXT, {"bf16": True}),
}


@pytest.fixture
def settings(tmp_path):
    return {
        "output_dir": str(tmp_path / "run"),
        "per_device_train_batch_size": 4,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
    }


@pytest.fixture
def model(custom_folder):
    return AutoModelForCausalLM.from_pretrained(custom_folder)


def train(trainer, name="loss"):
    """The logged values of every step."""
    trainer.train()
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def mean_loss(model, tokenizer, counted):
    """Nats a token over all rows, each computed alone; `counted` is where the loss of each row starts."""
    nats = tokens = 0
    for question, answer in ROWS:
        ids = tokenizer(f"Q: {question}\n\nA: {answer}<|endoftext|>", return_tensors="pt")["input_ids"]
        question_tokens = len(tokenizer(f"Q: {question}")["input_ids"])
        start = {"everything": 0, "after the question": question_tokens, "from A:": question_tokens + 2}[counted]
        labels = ids.clone()
        labels[0, :start] = -100
        count = int((labels[:, 1:] != -100).sum())
        nats += model(ids, labels=labels).loss.item() * count
        tokens += count
    return nats / tokens


@pytest.mark.parametrize("form", SFT_FORMS)
def test_sft(form, model, tokenizer, settings):
    """The first step's loss is that of each text alone: no form mixes texts up, or counts what it should not."""
    rows, extra = SFT_FORMS[form]
    counted = {"completion only": "after the question", "assistant only": "from A:"}.get(form, "everything")
    expected = mean_loss(model, tokenizer, counted)
    trainer = SFTTrainer(model, args=SFTConfig(**settings | extra), train_dataset=rows, processing_class=tokenizer)
    losses = train(trainer)
    assert losses[0] == pytest.approx(expected, rel=2e-2 if form == "bf16" else 1e-3)
    assert losses[-1] < losses[0]
    trainer.save_model(settings["output_dir"])
    again = AutoModelForCausalLM.from_pretrained(settings["output_dir"])
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_dpo_starts_at_ln_2(model, tokenizer, settings):
    """Policy and reference are the same model, so nothing random may be left in either."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    args = DPOConfig(**settings | {"learning_rate": 1e-4})
    trainer = DPOTrainer(model, args=args, train_dataset=PREFERENCE, processing_class=tokenizer)
    losses = train(trainer)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses[-1] < losses[0]


def test_grpo(model, tokenizer, settings):
    """It samples answers, has them scored, and takes steps by the scores."""
    prompts = Dataset.from_list([{"prompt": f"Q: {question}"} for question, _ in ROWS])

    def short(completions, **_):
        return [-float(len(completion)) for completion in completions]

    args = GRPOConfig(**settings, num_generations=4, max_completion_length=16, temperature=1.0)
    trainer = GRPOTrainer(model, reward_funcs=short, args=args, train_dataset=prompts, processing_class=tokenizer)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rewards = train(trainer, "reward")
    assert len(rewards) == 4
    assert all(math.isfinite(reward) for reward in rewards)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
