"""SFT: the loss is that of each conversation alone, only the wanted weights learn, and the end is learnt."""

import math

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoTokenizer, set_seed
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.evaluation.exam.answers import answer_questions
from train.post_training.build_trainer import build_trainer
from train.post_training.data.encoding import encode_conversations
from train.post_training.data.prepare import PostTrainingData
from train.post_training.data.statistics import RowStatistics
from train.post_training.settings.recipe import parse_recipe


LENGTHS = (3, 9, 1, 14, 6, 2)  # words of the answers


@pytest.fixture
def conversations(tokenizer):
    chats = [
        [
            {"role": "user", "content": f"Count to {length}."},
            {"role": "assistant", "content": " ".join(map(str, range(1, length + 1)))},
        ]
        for length in LENGTHS
    ]
    return encode_conversations(chats, tokenizer)


@pytest.fixture
def model():
    set_seed(0)
    config = GPT2ScratchConfig(
        vocab_size=50257, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2, bos_token_id=50256
    )
    return GPT2ScratchForCausalLM(config).eval()


@pytest.fixture
def build(tmp_path, tokenizer, conversations, model):
    """`build(*words)`: the trainer of a recipe on these conversations."""

    def build(*words):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"method: sft\noutput_dir: {tmp_path / 'run'}\nmax_length: 64\nper_device_train_batch_size: 6\n"
            "per_device_eval_batch_size: 4\nmax_steps: 2\nlogging_steps: 1\nsave_strategy: no\neval_strategy: no\n"
            "report_to: none\ndisable_tqdm: true\nlr_scheduler_type: constant\nlearning_rate: 1e-3\n"
            "dataloader_pin_memory: false\n"
        )
        rows = Dataset.from_list([{"input_ids": one.input_ids, "labels": one.labels} for one in conversations])
        data = PostTrainingData(rows, rows, RowStatistics(sha256={"train": "name"}), tmp_path)
        return build_trainer(parse_recipe(["--config", str(recipe), *words]), model, tokenizer, data, [])

    return build


def mean_loss(model, conversations, label_smoothing=0.0):
    """Nats a token of the answers and their ends, each conversation alone, from all logits."""
    nats = tokens = 0
    for one in conversations:
        with torch.no_grad():
            logits = model(torch.tensor([one.input_ids])).logits[0, :-1]
        labels = torch.tensor(one.labels)[1:]
        nats += torch.nn.functional.cross_entropy(
            logits, labels, reduction="sum", label_smoothing=label_smoothing
        ).item()
        tokens += int((labels != -100).sum())
    return nats / tokens


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "3"),
        ("--packing", "true"),
        ("--packing", "true", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "2"),
        ("--attn_implementation", "eager", "--packing", "true"),
        ("--use_peft", "true", "--packing", "true"),
    ],
    ids=" ".join,
)
def test_the_loss_is_that_of_each_conversation_alone(build, model, conversations, tokenizer, words):
    expected = mean_loss(model, conversations)
    trainer = build(*words, "--embd_pdrop", "0", "--attn_pdrop", "0", "--resid_pdrop", "0")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(expected, rel=1e-4)
    assert logged(trainer, "loss")[1] < expected
    tokens = sum(len(one.input_ids) for one in conversations)
    assert logged(trainer, "tokens_seen") == [tokens, 2 * tokens]


def test_the_padding_free_batch_of_trl_has_the_same_loss(build, model, conversations):
    expected = mean_loss(model, conversations)
    trainer = build("--packing", "true")
    rows = [trainer.train_dataset[number] for number in range(len(trainer.train_dataset))]
    ours = trainer.data_collator(rows)
    theirs = DataCollatorForLanguageModeling(trainer.processing_class.eos_token_id, padding_free=True)(rows)
    assert ours["input_ids"].shape[0] == len(rows) > 1
    assert ours.pop("real_tokens") == theirs["input_ids"].numel()
    trainer.model.eval()
    for batch in (ours, theirs):
        assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "words",
    [(), ("--packing", "true"), ("--use_peft", "true"), ("--label_smoothing_factor", "0.1"), ("--loss_type", "dft")],
    ids=" ".join,
)
def test_the_validation_loss_is_the_mean_over_tokens(build, model, conversations, words):
    expected = mean_loss(model, conversations)
    metrics = build(*words).evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_perplexity"] == pytest.approx(math.exp(expected), rel=1e-4)


def test_label_smoothing_is_that_of_the_next_token(build, model, conversations):
    expected = mean_loss(model, conversations, label_smoothing=0.1)
    trainer = build("--label_smoothing_factor", "0.1", "--max_steps", "1")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(expected, rel=1e-4)


def test_trls_other_losses_are_trls(build, model, conversations):
    """Dynamic fine-tuning weighs each token by its probability."""
    trainer = build("--loss_type", "dft", "--max_steps", "1")
    trainer.train()
    assert 0 < logged(trainer, "loss")[0] < mean_loss(model, conversations) / 10


def test_lora_trains_adapters_only_and_the_merged_model_is_the_adapted_one(build, model, conversations, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = build("--use_peft", "true", "--lora_r", "4", "--max_steps", "3", "--learning_rate", "1e-2")
    base = trainer.model.get_base_model()
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    trainer.train()
    weights = {name.replace(".base_layer", ""): tensor for name, tensor in base.state_dict().items()}
    assert all(torch.equal(weights[name], tensor) for name, tensor in before.items())

    ids = torch.tensor([conversations[3].input_ids])
    trainer.model.eval()
    with torch.no_grad():
        adapted = trainer.model(ids).logits
    trainer.save_final_model()
    merged = GPT2ScratchForCausalLM.from_pretrained(tmp_path / "run").eval()
    alone = GPT2ScratchForCausalLM(merged.config).eval()
    alone.load_state_dict(before)
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted, rtol=0, atol=1e-4)
        with_adapter = PeftModel.from_pretrained(alone, tmp_path / "run" / "adapter").eval()
        torch.testing.assert_close(with_adapter(ids).logits, adapted, rtol=0, atol=1e-4)
    assert (adapted - model(ids).logits).abs().max() < 1e-3  # the trainer's model is now the merged one


def test_what_is_saved_has_no_padding_token(build, tokenizer, tmp_path):
    trainer = build()
    trainer.train()
    trainer.save_final_model()
    assert AutoTokenizer.from_pretrained(tmp_path / "run").pad_token is None
    saved = GPT2ScratchForCausalLM.from_pretrained(tmp_path / "run")
    assert saved.config.pad_token_id is None
    assert saved.generation_config.pad_token_id is None
    assert not (tmp_path / "run" / "README.md").exists()


def test_the_model_learns_to_end(build, model, tokenizer):
    """Padded batches, whose padding is the end-of-text token: the end is learnt all the same."""
    trainer = build("--max_steps", "30", "--learning_rate", "2e-2", "--logging_steps", "30")
    questions = [{"query": f"Count to {length}.", "exercise": "x", "constraints": None} for length in LENGTHS]
    before = answer_questions(trainer.model, tokenizer, questions, 30)
    assert not any(answer.ended for answer in before)
    trainer.train()
    answers = answer_questions(trainer.model, tokenizer, questions, 30)
    assert all(answer.ended for answer in answers)
