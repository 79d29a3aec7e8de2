import pytest
import torch
from transformers import TrainingArguments

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train.callbacks import throughput
from train.callbacks.flops import flops_per_token, measured_peak_flops
from train.callbacks.throughput import Throughput


CONFIG = GPT2ScratchConfig(vocab_size=500, n_layer=1, n_head=2, n_embd=16, n_positions=16)


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")


@pytest.fixture
def clock_time(monkeypatch):
    """The time that the clock reads, moved by the test."""
    now = [100.0]
    monkeypatch.setattr("train.callbacks.step_clock.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(throughput, "measured_peak_flops", lambda *args, **kwargs: 1e9)
    return now


def test_speed_use_and_time_left_follow_from_the_steps(arguments, clock_time):
    figures = Throughput(GPT2ScratchForCausalLM(CONFIG), arguments, sequence_tokens=16, tokens_per_step=64)
    assert figures.describe(1, 101, []).keys() == {"tokens_seen", "memory_gib", "elapsed_seconds"}
    clock_time[0] += 10 * 0.5
    found = figures.describe(11, 101, [])
    assert found["tokens_seen"] == 11 * 64
    assert found["tokens_per_second"] == 128
    assert found["mfu"] == pytest.approx(128 * flops_per_token(CONFIG, 16) / 1e9, abs=1e-4)
    assert found["eta_seconds"] == 90 * 0.5
    assert found["data_wait"] == 0
    with figures.clock.paused():
        clock_time[0] += 5
    clock_time[0] += 10 * 0.5
    found = figures.describe(21, 101, [])
    assert found["tokens_per_second"] == 128
    assert found["eta_seconds"] == 80 * 0.75, "evaluating and saving take their part of what is left"


def test_the_time_of_earlier_starts_is_counted(arguments, clock_time):
    figures = Throughput(GPT2ScratchForCausalLM(CONFIG), arguments, sequence_tokens=16, tokens_per_step=64)
    figures.begin()
    history = [{"step": 5, "elapsed_seconds": 40.0}, {"step": 5, "eval_loss": 2.0}]
    clock_time[0] += 3
    assert figures.describe(6, 10, history)["elapsed_seconds"] == 43
    clock_time[0] += 3
    history.append({"step": 6, "elapsed_seconds": 43.0})
    assert figures.describe(7, 10, history)["elapsed_seconds"] == 46


def test_measuring_the_peak_draws_no_random_numbers_of_the_run():
    state = torch.random.get_rng_state()
    assert measured_peak_flops(torch.device("cpu"), torch.float32, seconds=0.01) > 1e6
    assert torch.equal(torch.random.get_rng_state(), state)


def test_memory_is_the_peak_of_this_process(arguments):
    figures = Throughput(GPT2ScratchForCausalLM(CONFIG), arguments, sequence_tokens=16, tokens_per_step=64)
    held = torch.ones(2**28 // 4 * 3)
    assert 0.75 <= figures.describe(1, 10, [])["memory_gib"] < 64
    assert held.nbytes == 0.75 * 2**30
