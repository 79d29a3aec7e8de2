import json

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.callbacks.text_samples import TextSamples
from train.run_files import SAMPLES_FILE, read_samples


@pytest.fixture
def model():
    return GPT2ScratchForCausalLM(GPT2ScratchConfig(n_layer=1, n_head=2, n_embd=16, n_positions=24)).train()


@pytest.fixture
def evaluate(tmp_path, model):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")

    def run(samples: TextSamples, step: int) -> list[dict]:
        state = TrainerState(global_step=step)
        samples.on_evaluate(arguments, state, TrainerControl(), model=model)
        return [json.loads(line) for line in (tmp_path / SAMPLES_FILE).read_text().splitlines()]

    return run


def test_each_evaluation_adds_an_answer_to_each_question(evaluate, tokenizer):
    samples = TextSamples(tokenizer, ["Why?", "Who?"], max_new_tokens=4, temperature=0.7)
    evaluate(samples, step=10)
    found = evaluate(samples, step=20)
    assert [(sample["step"], sample["question"]) for sample in found] == [
        (step, question) for step in (10, 20) for question in ("Why?", "Who?")
    ]


def test_a_resumed_run_forgets_what_came_after_its_step(tokenizer, tmp_path):
    file = tmp_path / SAMPLES_FILE
    file.write_text(
        "".join(json.dumps({"step": step, "text": "x\u2028y"}, ensure_ascii=False) + "\n" for step in (5, 10, 15))
        + '{"step": 20, "te'
    )
    samples = TextSamples(tokenizer, [], 4, 0.0)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    samples.on_train_begin(arguments, TrainerState(global_step=10, is_world_process_zero=True), TrainerControl())
    assert [(sample["step"], sample["text"]) for sample in read_samples(tmp_path)] == [
        (5, "x\u2028y"),
        (10, "x\u2028y"),
    ]


def test_looking_changes_neither_the_random_numbers_nor_the_mode_of_the_model(evaluate, tokenizer, model):
    before = torch.get_rng_state()
    evaluate(TextSamples(tokenizer, ["Why?"], max_new_tokens=4, temperature=0.7), step=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_a_model_of_texts_continues_beginnings(evaluate, tokenizer, monkeypatch):
    asked = []

    def write(model, prompts, **options):
        asked.extend(prompts)
        return [([11],)]

    monkeypatch.setattr("train.callbacks.text_samples.write_texts", write)
    evaluate(TextSamples(tokenizer, ["Once upon"], 4, 0.0, as_questions=False), step=1)
    assert asked == [[tokenizer.eos_token_id, *tokenizer("Once upon")["input_ids"]]]


def test_a_long_answer_stops_at_the_context(evaluate, tokenizer):
    samples = TextSamples(tokenizer, ["Why?"], max_new_tokens=1000, temperature=0.7)
    assert len(evaluate(samples, step=1)) == 1


def test_texts_reach_trackio_as_a_table_over_steps(tokenizer, tmp_path, monkeypatch, model):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    sent = []
    monkeypatch.setattr(trackio, "log", lambda entry, step: sent.append((entry["samples"].data, step)))
    samples = TextSamples(tokenizer, ["Why?"], 4, 0.0)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=["trackio"])
    samples.on_train_begin(arguments, TrainerState(), TrainerControl())
    for step in (1, 2):
        samples.on_evaluate(arguments, TrainerState(global_step=step), TrainerControl(), model=model)
    samples.on_train_end(arguments, TrainerState(global_step=2), TrainerControl())
    samples.on_evaluate(arguments, TrainerState(global_step=2), TrainerControl(), model=model)  # its run is closed now
    assert [([row["step"] for row in rows], step) for rows, step in sent] == [([1], 1), ([1, 2], 2)]
