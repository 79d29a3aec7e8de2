"""Optuna: the lines of train's README search a learning rate, on a model and a run that take a second."""

import re

import pytest


SMALL = '["--n_embd", "16", "--n_layer", "1", "--n_head", "1", "--logging_steps", "2", "--warmup_steps", "1", '


@pytest.mark.slow
def test_the_readmes_lines_find_a_learning_rate(repository, tmp_path, monkeypatch):
    text = (repository / "train" / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    small = lines.replace('parse_recipe(["', f'parse_recipe({SMALL}"').replace('"200"', '"3"').replace("=20", "=2")
    assert small.count("--n_embd") == small.count('"3"') == small.count("n_trials=2") == 1
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(small, names)
    best = names["best"]
    assert 1e-4 < best.hyperparameters["learning_rate"] < 1e-2
    assert 5 < best.objective < 8  # nats per token: the validation loss, and not the sum of all figures
    trainer = names["trainer"]
    assert trainer.args.learning_rate != names["recipe"].all_settings["learning_rate"]
    assert len(trainer.optimizer.param_groups) > 1  # the run's own optimizer
