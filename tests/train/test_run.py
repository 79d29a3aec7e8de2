"""Figures before the first step are measured once, and read by the starts that resume a run; how a run gives up."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from transformers import AutoTokenizer

from modeling_gpt2scratch import GPT2ScratchConfig, GPT2ScratchForCausalLM
from train import pretrain
from train.data import __main__ as prepare
from train.run import figures_before
from train.tokenizer import __main__ as tokenizer


def test_a_resumed_run_reads_the_figures_of_its_first_start(tmp_path):
    def measure() -> dict:
        measured.append(1)
        return {"exam": [{"exercise": "mcq"}]}

    measured: list[int] = []
    first = figures_before(tmp_path, is_resumed=False, writes=True, measure=measure)
    assert figures_before(tmp_path, is_resumed=True, writes=True, measure=measure) == first
    assert len(measured) == 1
    figures_before(tmp_path, is_resumed=False, writes=True, measure=measure)
    assert len(measured) == 2


def test_a_process_that_does_not_write_measures_all_the_same(tmp_path):
    assert figures_before(tmp_path, is_resumed=True, writes=False, measure=lambda: {"exam": []}) == {"exam": []}
    assert not list(tmp_path.iterdir())


def test_a_launcher_of_several_processes_is_told_the_last_line(tmp_path, monkeypatch, caplog):
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert pretrain.main(["--learning_rate", "nan"]) == 2
        failure = ProcessFailure(int(rank), pid=1, exitcode=2, error_file=str(file))
        assert failure.message.startswith("pretrain.py: --learning_rate nan must be a finite number")
    assert len(caplog.records) == 1  # one process of a machine prints it, too


@pytest.fixture
def bad_input(tmp_path, own_tokenizer):
    """Files and folders that no run can use, by name."""
    pq.write_table(pa.table({"text": [1, 2, 3]}), tmp_path / "numbers.parquet")
    (tmp_path / "numbers.jsonl").write_text(json.dumps({"text": 3}) + "\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n" * 100)
    (tmp_path / "text.txt").write_text("Some text.\n" * 100)
    endless = AutoTokenizer.from_pretrained(own_tokenizer)
    endless.eos_token = None
    endless.save_pretrained(tmp_path / "endless")
    sizes = {"n_positions": 64, "n_embd": 8, "n_layer": 1, "n_head": 1}
    GPT2ScratchForCausalLM(GPT2ScratchConfig(vocab_size=100, **sizes)).save_pretrained(tmp_path / "other")
    return {path.name: str(path) for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "{numbers.parquet}"], "column text holds int64, string is wanted"),
        (["--dataset", "{numbers.jsonl}"], "text is 3, a string or null is wanted"),
        (["--dataset", "{text.txt}", "--languages", "en", "fr"], "has no column language; it has text"),
        (["--dataset", "{empty.txt}"], "is empty: there is nothing in empty.txt"),
        (["--dataset", "{blank.txt}"], "holds 0 tokens"),  # which shows when all rows are read
        (["--tokenizer", "{endless}"], "has no end-of-text token"),
        (["--init_from", "{other}"], "has a vocabulary of 100"),
        (["--n_head", "3"], "n_embd=16 is not divisible by n_head=3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_alike_by_all_commands(words, message, bad_input, tiny_recipe, tmp_path, caplog):
    """With status 2 and in one line, before anything is tokenised, and no folder is left behind."""
    words = [bad_input.get(word.strip("{}"), word) for word in words]
    recipe, shows_at_once = ["--config", str(tiny_recipe)], "tokens" not in message
    commands = [lambda more: pretrain.main([*recipe, *more])]
    if "--init_from" not in words and "--n_head" not in words:
        commands.append(lambda more: prepare.main([*recipe, *more]))
    if shows_at_once:
        commands.append(lambda more: pretrain.main([*recipe, *more, "--dry_run"]))
    if words[0] == "--dataset":
        output = ["--vocab_size", "300", "--output_dir", str(tmp_path / "run")]
        commands.append(lambda more: tokenizer.main([*more, *output]))
    for command in commands:
        assert command(words) == 2
        line = caplog.records[-1].getMessage()
        assert message in line or "The text to train on is empty" in line
        assert "\n" not in line
        assert not (tmp_path / "run").exists()
    assert shows_at_once is not (tmp_path / "cache").exists()
