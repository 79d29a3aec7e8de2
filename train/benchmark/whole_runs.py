"""Whole runs of `train/pretrain.py` with the recipe of 10 B tokens: their speed, and what a kill costs them."""

import json
import random
from pathlib import Path

from train.benchmark.cases import WARM_UP_TURNS, Case
from train.benchmark.contender import write_rows
from train.benchmark.duel import summarise
from train.experiments.child_run import finish_run, start_run
from train.experiments.fault_injection import inject_faults
from train.run_files import TRAINER_STATE_FILE
from train.settings.arguments import RECIPES_FOLDER


TIMES_THE_SAMPLE = 40  # about 20 M tokens: what the whole runs of GPT-2 124M take
KILLS = 3


def run_whole(case: Case, folder: Path) -> dict[str, dict]:
    """The figures of our side, as `run_case` gives them.

    "recipe" is from rows to loss, with dataloader, logging and the own accumulation of the recipe. "resume" kills a run
    while it starts, trains or saves, and compares it with one that was never killed; on GPUs, whose kernels add in any
    order, with torch's deterministic ones.
    """
    rows = folder / "rows.parquet"
    write_rows(rows, TIMES_THE_SAMPLE if case.model.n_layer > 2 else 1)
    sizes = {name: case.model_settings[name] for name in ("n_layer", "n_head", "n_embd", "n_positions")}
    settings = {
        "config": RECIPES_FOLDER / "gpt2_124m_synth_10b.yaml",
        **sizes,
        "dataset": rows,
        "data_cache_dir": folder / "cache",
        "validation_fraction": 0.05,
        "max_eval_sequences": 8,
        "sequence_length": case.length,
        "per_device_train_batch_size": case.batch,
        "per_device_eval_batch_size": case.batch,
        "bf16": case.precision == "bfloat16",
        "fp16": case.precision == "float16",
        "torch_compile": case.compiled,
        "warmup_steps": 1,
        "sample_tokens": 4,
        "html_report": False,
    }
    return {"ours": _time_recipe(case, settings, folder) if case.work == "recipe" else _kill(settings, folder)}


def _time_recipe(case: Case, settings: dict, folder: Path) -> dict:
    every = case.steps_per_turn
    steps = every * (case.turns + 1)  # no speed is known at the first log line
    run = folder / "run"
    logged = {"max_steps": steps, "logging_steps": every, "logging_first_step": False, "eval_strategy": "no"}
    finish_run(start_run(_words(settings | logged | {"save_strategy": "no"}), run), run)
    history = json.loads((run / TRAINER_STATE_FILE).read_text(encoding="utf-8"))["log_history"]
    lines = [entry for entry in history if "tokens_per_second" in entry][-case.turns :]
    tokens = lines[-1]["tokens_seen"] // lines[-1]["step"]
    facts = {
        "tokens": tokens,
        "data_wait": lines[-1]["data_wait"],
        "peak_memory_bytes": lines[-1]["memory_gib"] * 2**30,
        "mfu": lines[-1]["mfu"],
    }
    return summarise([tokens / line["tokens_per_second"] for line in lines[WARM_UP_TURNS:]], facts)


def _kill(settings: dict, folder: Path) -> dict:
    steps = {"max_steps": 60, "save_steps": 10, "eval_steps": 30, "logging_steps": 1, "gradient_accumulation_steps": 1}
    words = _words(settings | steps | {"full_determinism": True, "disable_tqdm": True})
    report = inject_faults(folder, words, kills=KILLS, chance=random.Random(0))
    return {"kills": report.kills.total(), "compared": sum(report.compared.values()), "differences": report.differences}


def _words(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]
