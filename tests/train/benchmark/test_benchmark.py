"""The benchmark measures what it says, on both sides, and says what failed."""

import dataclasses
import io
import json
import math
import sys

import pytest
import torch

from train.benchmark import __main__ as benchmark
from train.benchmark import contender
from train.benchmark.cases import GPT2_124M, SMALL, WARM_UP_TURNS, Case, ModelSize, cases_for_cpu, cases_for_gpu, sweep
from train.benchmark.duel import Contender, ContenderFailedError, run_case
from train.benchmark.report import SIDES, add_figures, draw, render_line, render_table


TINY = ModelSize("tiny", n_layer=1, n_head=2, n_embd=8)
TRAIN = Case(TINY, "train", 2, 16, dropout=0.1, steps_per_turn=2, turns=4)


@pytest.fixture
def measured():
    """A possible result of `run_case`."""
    side = {"seconds": [2.0], "median_seconds": 2.0, "tokens": 100, "tokens_per_second": 50.0, "parameters": 7}
    side |= {"peak_memory_bytes": 10**9, "flops_per_token": 1000}
    result = {"case": TRAIN.name, "settings": dataclasses.asdict(TRAIN)}
    ours = {**side, "median_seconds": 1.0, "tokens_per_second": 100.0, "peak_memory_bytes": 4 * 10**8}
    return {**result, "ours": ours, "transformers": side}


def assert_same_work(ours, theirs):
    for fact in ("tokens", "parameters", "flops_per_token"):
        assert ours[fact] == theirs[fact]
    for side in (ours, theirs):
        assert 1e8 < side["peak_memory_bytes"] < 1e10


@pytest.mark.slow
def test_both_sides_train_in_turns():
    result = run_case(TRAIN)
    ours, theirs = result["ours"], result["transformers"]
    assert len(ours["seconds"]) == len(theirs["seconds"]) == TRAIN.turns - WARM_UP_TURNS
    assert all(seconds > 0 for seconds in [*ours["seconds"], *theirs["seconds"]])
    assert ours["tokens"] == 32
    assert_same_work(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "tokens"),
    [
        (Case(TINY, "evaluate", 2, 16, turns=3), 32),
        (Case(TINY, "generate", 1, 8, new_tokens=4, turns=3), 4),
        (Case(TINY, "prepare", 1, 1024, turns=2), 500_000),
    ],
    ids=lambda value: value.work if isinstance(value, Case) else "",
)
def test_both_sides_do_the_same_work(case, tokens, monkeypatch, capsys):
    """Each in this process, as `run_case` starts it in one of its own."""
    facts, threads = [], torch.get_num_threads()
    for side in SIDES:
        monkeypatch.setattr(sys, "argv", ["contender", side, json.dumps(dataclasses.asdict(case))])
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * case.turns))
        contender.main()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(contender.ANSWER)]
        *turns, last = (json.loads(line.removeprefix(contender.ANSWER)) for line in lines)
        assert len(turns) == case.turns
        assert all(turn["seconds"] > 0 for turn in turns)
        facts.append(last)
    torch.set_num_threads(threads)
    assert tokens <= facts[0]["tokens"] < 10 * tokens
    assert_same_work(*facts)


@pytest.mark.slow
@pytest.mark.multiprocess
def test_two_processes_a_side():
    result = run_case(Case(TINY, "train", 2, 16, turns=3), processes=2)
    assert result["ours"]["tokens"] == result["transformers"]["tokens"] == 64


@pytest.mark.slow
def test_a_side_that_fails_says_why(tmp_path):
    impossible = Case(ModelSize("impossible", n_layer=1, n_head=3, n_embd=8), "train", 2, 16)
    ours = Contender("ours", impossible, processes=1, on_gpu=False, log=tmp_path / "log")
    with pytest.raises(ContenderFailedError, match=r"(?s)ours ended with status 1:.*(n_head|num_heads)"):
        ours.take_turn()
    ours.stop()


def test_ratios_and_utilisation(measured):
    result = add_figures(measured, {"float32": 1e6}, None, processes=1)
    assert result["time_ratio"] == 0.5
    assert result["memory_ratio"] == pytest.approx(0.4)
    assert result["ours"]["mfu"] == pytest.approx(0.1)
    assert "mfu_data_sheet" not in result["ours"]
    cells = render_table([result, {"case": "x", "failed": "MemoryError"}]).splitlines()[-1].split("  ")
    figures = [cell.strip() for cell in cells if cell.strip()]
    assert figures == [TRAIN.name, "1.000", "2.000", "0.50", "0.40", "1.00", "0.40", "100", "10.0%"]
    assert render_line(result).endswith("time ratio 0.50, memory ratio 0.40")


def test_several_devices_share_the_work(measured):
    measured["settings"]["bf16"] = True
    result = add_figures(measured, {"float32": 1e6, "bfloat16": 2e6}, 4e6, processes=2)
    assert result["ours"]["mfu"] == pytest.approx(0.025)
    assert result["ours"]["mfu_data_sheet"] == pytest.approx(0.0125)


def test_main_writes_table_json_and_picture(measured, monkeypatch, tmp_path, capsys):
    """A case that fails is a line of the table; the others go on."""

    def run_case(case, *arguments, **settings):
        if case.work == "evaluate":
            raise ContenderFailedError("transformers ended with status 1:\nMemoryError")
        return {side: dict(measured[side]) for side in ("ours", "transformers")}

    monkeypatch.setattr(benchmark, "run_case", run_case)
    monkeypatch.setattr(benchmark, "measured_peak_flops", lambda *arguments, **settings: 1e12)
    assert benchmark.main(["--quick", "--sweep", "--output_dir", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert [result["case"] for result in report["cases"]] == [case.name for case in cases_for_cpu(quick=True)]
    assert len(report["sweep"]) == len(sweep(is_gpu=False))
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "failed: MemoryError" in output
    assert output.count(" 0.50  ") >= len(cases_for_cpu(quick=True)) - 1


def test_a_picture_without_a_sweep_and_one_of_failures_alone(measured, tmp_path):
    report = {"device": "x", "processes": 1, "versions": {"torch": "2"}, "cases": [measured], "sweep": []}
    draw(tmp_path / "cases.png", report)
    assert (tmp_path / "cases.png").exists()


def test_only_some_cases(monkeypatch, capsys, tmp_path):
    assert benchmark.main(["--only", "nothing", "--output_dir", str(tmp_path / "out")]) == 2
    assert "--only 'nothing': there are train, 124M" in capsys.readouterr().err
    assert benchmark.main(["--sweep", "--only", "nothing", "--output_dir", str(tmp_path / "out")]) == 2
    (tmp_path / "file").touch()
    assert benchmark.main(["--only", "generate", "--output_dir", str(tmp_path / "file")]) == 2
    assert not (tmp_path / "out").exists()
    arguments = benchmark.parse_arguments(["--only", "generate"])
    cases, _ = benchmark.choose_cases(arguments, is_gpu=False)
    assert {case.work for case in cases} == {"generate"}


@pytest.mark.parametrize("words", [["--num_processes", "0"], ["--quickly"]])
def test_bad_words_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(words)
    assert words[0] in capsys.readouterr().err


def test_the_cases_cover_what_is_promised():
    full = cases_for_cpu(quick=False)
    assert {(case.model, case.batch, case.length, case.dropout) for case in full if case.work == "train"} == {
        (GPT2_124M, 4, 512, 0.0),
        (GPT2_124M, 4, 512, 0.1),
        (SMALL, 8, 256, 0.1),
    }
    assert {case.batch for case in full if case.work == "generate"} == {1, 8}
    gpu = cases_for_gpu(quick=False)
    assert any(case.compiled for case in gpu)
    assert all(case.bf16 for case in gpu if case.work == "train")
    for is_gpu in (False, True):
        swept = sweep(is_gpu)
        assert len({case.length for case in swept}) >= 5
        assert len({case.batch for case in swept}) >= 5
        assert len(swept) == len({case.name for case in swept})
        assert all(math.log2(case.length).is_integer() for case in swept)
