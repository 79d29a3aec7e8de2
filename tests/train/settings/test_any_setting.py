"""Any value of any setting runs two steps on a tiny model, or is refused in one line before the data is prepared."""

import logging
import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train import finetune, pretrain
from train.buildable import check_buildable
from train.post_training.rehearsal import rehearse
from train.post_training.settings import recipe as post_training
from train.post_training.settings.arguments import POST_TRAINING_RECIPES
from train.settings import recipe as pre_training


NUMBERS = ("0", "-1", "1", "2", "0.5", "-0.5", "nan", "inf", "-inf", "1e300", "99999999999999999999", "", "x")
WORDS = ("", "x", "/nowhere", "-1", "nan", "a b", "{}", '{"a": 1}', "[1]", "{bad", "1", "no", "e\u0301")
# These name where things lie, or what the tests keep small; a Hub id would be asked for.
FIXED = {"config", "help", "help_all", "dry_run", "exam", "method", "hub_token", "dataset", "init_from", "output_dir"}
# Compiling takes longer than the rest of the tests.
SLOW = {"torch_compile", "torch_compile_backend", "torch_compile_mode"}
# What these set in a process stays set.
GLOBAL = {"full_determinism", "tf32", "log_level", "log_level_replica"}
SEEDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def settings_with_values(parser) -> list[tuple[str, list[str]]]:
    """The settings of a parser, each with the values that its type calls for, and some that it does not."""
    found = []
    for action in parser._actions:
        if action.option_strings and action.dest not in FIXED | SLOW | GLOBAL:
            choices = [str(choice) for choice in action.choices or ()]
            values = [*choices, "x"] if choices else NUMBERS if action.type in (int, float) else WORDS
            found.append((action.dest, list(values)))
    return found


def words_from(parser) -> st.SearchStrategy:
    """One or two settings with a value each, as words."""
    pair = st.sampled_from(settings_with_values(parser)).flatmap(
        lambda setting: st.sampled_from(setting[1]).map(lambda value: [f"--{setting[0]}", value])
    )
    return st.lists(pair, min_size=1, max_size=2).map(lambda pairs: [word for pair in pairs for word in pair])


@pytest.mark.parametrize("method", ["pretrain", "sft", "dpo", "grpo"])
def test_any_setting_is_taken_or_refused_in_one_line(method, tmp_path, own_tokenizer):
    module = pre_training if method == "pretrain" else post_training
    start = ["--output_dir", str(tmp_path / "run")]
    if method != "pretrain":  # a recipe of the method: those of others have settings that it does not know
        start += ["--config", str(POST_TRAINING_RECIPES / f"demo_{method}.yaml")]

    tokenizer = AutoTokenizer.from_pretrained(own_tokenizer)
    config = GPT2ScratchConfig(vocab_size=len(tokenizer), n_positions=64, n_layer=1, eos_token_id=0)

    @settings(SEEDED, max_examples=150 if method == "pretrain" else 100)
    @given(words_from(module.settings_parser(start)))
    def check(words):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "environ", os.environ.copy())  # --fsdp sets variables
            try:
                recipe = module.parse_recipe([*start, *words])
                check_buildable(recipe)
                if method != "pretrain":
                    rehearse(recipe, config, tokenizer)
            except (ValueError, ImportError, OSError) as refusal:
                assert str(refusal), words
                assert "\n" not in str(refusal), words

    module.parse_recipe(start)
    check()
    assert not (tmp_path / "run").exists()


@pytest.fixture
def start_words(tmp_path, rows_file):
    """`start_words(script)`: words of two steps on a tiny model."""
    common = {
        "dataset": rows_file,
        "data_cache_dir": tmp_path / "cache",
        "validation_fraction": 0.1,
        "cpu_threads": 1,
        "max_steps": 2,
        "eval_steps": 2,
        "save_steps": 2,
        "html_report": "false",
        "config": tmp_path / "recipe.yaml",
        "per_device_train_batch_size": 2,
    }
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")  # without the demo's exam
    tiny = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}

    def words(script):
        if script is pretrain:
            own = {**tiny, "sequence_length": 32, "max_eval_sequences": 2}
        else:
            GPT2ScratchForCausalLM(GPT2ScratchConfig(**tiny)).save_pretrained(tmp_path / "base")
            own = {"init_from": tmp_path / "base", "max_length": 64, "max_eval_samples": 2, "forgetting_sequences": 0}
        return [word for name, value in (common | own).items() for word in (f"--{name}", str(value))]

    return words


@pytest.mark.slow
@pytest.mark.parametrize(("script", "loader"), [(pretrain, "load_training_data"), (finetune, "load_data")])
def test_what_is_taken_runs(script, loader, start_words, tmp_path, tmp_path_factory, caplog, monkeypatch):
    """`caplog` holds what a user reads; the data is prepared once, by the first run."""
    monkeypatch.chdir(tmp_path)
    start = start_words(script)
    parser = pre_training.settings_parser([]) if script is pretrain else post_training.settings_parser([])
    prepared: list[bool] = []
    load = getattr(script, loader)

    def note_and_load(*args, **kwargs):
        data = load(*args, **kwargs)
        prepared.append(True)
        return data

    monkeypatch.setattr(script, loader, note_and_load)

    @settings(SEEDED, max_examples=12, phases=[Phase.generate])
    @given(words_from(parser))
    def check(words):
        caplog.clear()
        prepared.clear()
        status = script.main([*start, "--output_dir", str(tmp_path_factory.mktemp("any") / "run"), *words])
        if status:
            errors = [record for record in caplog.records if record.levelno == logging.ERROR]
            assert (len(errors), prepared) == (1, []), (words, caplog.text)
            assert "\n" not in errors[0].getMessage(), words

    check()
