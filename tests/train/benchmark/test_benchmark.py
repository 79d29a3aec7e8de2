"""The benchmark measures what it says, on both sides, and says what failed."""

import dataclasses
import io
import json
import math
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from tests.train.forked_run import ForkedRun
from train.benchmark import __main__ as benchmark
from train.benchmark import contender, duel, whole_runs
from train.benchmark.cases import GPT2_124M, SIDES, SMALL, WARM_UP_TURNS, Case, ModelSize, cases_for_cpu, choose_cases
from train.benchmark.duel import run_case
from train.benchmark.report import add_figures, describe_micro_batches, draw, make_table, render_line
from train.benchmark.whole_runs import run_whole
from train.experiments.fault_injection import Report


CPU = torch.device("cpu")
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


def fork_contender(command, **pipes):
    """In place of `subprocess.Popen`: without the seconds of its imports."""
    return ForkedRun(contend, command[-2:])


def contend(words):
    sys.argv = ["contender", *words]
    contender.main()
    return 0


def test_both_sides_train_in_turns(monkeypatch):
    monkeypatch.setattr(duel, "subprocess", SimpleNamespace(Popen=fork_contender, PIPE=None))
    result = run_case(TRAIN, SIDES)
    ours, theirs = result["ours"], result["transformers"]
    assert len(ours["seconds"]) == len(theirs["seconds"]) == TRAIN.turns - WARM_UP_TURNS
    assert all(seconds > 0 for seconds in [*ours["seconds"], *theirs["seconds"]])
    assert ours["tokens"] == 32
    assert_same_work(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "tokens"),
    [
        (Case(TINY, "train", 2, 16, precision="bfloat16", kernel="math", turns=3), 32),
        (Case(TINY, "evaluate", 2, 16, turns=3), 32),
        (Case(TINY, "generate", 1, 8, new_tokens=4, turns=3), 4),
        (Case(TINY, "prepare", 1, 1024, turns=2), 100_000),
        (Case(TINY, "prepare_text", 1, 1024, turns=2), 100_000),
    ],
    ids=lambda value: value.work if isinstance(value, Case) else "",
)
def test_both_sides_do_the_same_work(case, tokens, monkeypatch, capsys):
    """Each in this process, as `run_case` starts it in one of its own."""
    monkeypatch.setattr(contender, "QUERIES_IN_A_ROW", 3)  # rows are short
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
def test_a_side_may_be_two_processes():
    result = run_case(Case(TINY, "train", 2, 16, turns=3), ["ours"], processes=2)
    assert result["ours"]["tokens"] == 64


class FakeContender:
    """In place of a process; that of transformers has not enough memory."""

    alive = 0

    def __init__(self, side, case, **settings):
        self.side, self.turns = side, 0
        FakeContender.alive += 1

    def take_turn(self):
        self.turns += 1
        if self.side == "transformers":
            raise duel.ContenderFailedError("transformers ended with status 1:\nOutOfMemoryError: CUDA out of memory.")
        return 2.0 * self.turns

    def answer(self):
        return {"tokens": 32}

    def stop(self):
        FakeContender.alive -= 1


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_side_that_fails_does_not_end_the_other(on_gpu, monkeypatch):
    monkeypatch.setattr(duel, "Contender", FakeContender)
    result = run_case(TRAIN, SIDES, on_gpu=on_gpu)
    assert result["ours"] == {"seconds": [3, 4], "median_seconds": 3.5, "tokens_per_second": 32 / 3.5, "tokens": 32}
    assert "out of memory" in result["transformers"]["failed"]
    assert FakeContender.alive == 0


@pytest.mark.slow
def test_a_side_that_fails_says_why():
    impossible = Case(ModelSize("impossible", n_layer=1, n_head=3, n_embd=8), "train", 2, 16)
    (failure,) = run_case(impossible, ["ours"]).values()
    assert re.search(r"(?s)ours ended with status 1:.*(n_head|num_heads)", failure["failed"])


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_recipe_runs_from_rows_to_loss(tmp_path):
    case = Case(TINY, "recipe", 2, 32, precision="bfloat16", turns=4)
    ours = run_whole(case, tmp_path)["ours"]
    assert ours["tokens"] == 2 * 32 * 8  # the recipe's accumulation
    assert len(ours["seconds"]) == case.turns - WARM_UP_TURNS
    assert 0 <= ours["data_wait"] < 1
    assert "tokens/s" in render_line({"case": case.name, "ours": ours})


def test_ratios_and_utilisation(measured):
    measured["ours"]["estimated_bytes"] = 2 * 10**9
    result = add_figures(measured, {"float32": 1e6}, None, processes=1)
    assert result["time_ratio"] == 0.5
    assert result["memory_ratio"] == pytest.approx(0.4)
    assert result["ours"]["mfu"] == pytest.approx(0.1)
    assert "mfu_data_sheet" not in result["ours"]
    cells = make_table([result, {"case": "x", "skipped": "fp16 needs a GPU"}]).to_text().splitlines()[-1].split("  ")
    figures = [cell.strip() for cell in cells if cell.strip()]
    expected = [TRAIN.name, "1.000", "2.000", "0.50", "0.40", "1.00", "0.40", "2.00", "100", "50", "10.0%"]
    assert figures == expected
    assert render_line(result).endswith("time ratio 0.50, memory ratio 0.40")


@pytest.mark.parametrize(
    ("differences", "words"), [([], "3 kills, 90 values compared: the same, bit for bit"), (["loss: 1"], "1 differ")]
)
def test_what_kills_cost_is_told(differences, words, tmp_path, monkeypatch):
    report = Report(kills=Counter(training=2, saving=1), compared=Counter(loss=90), differences=differences)
    monkeypatch.setattr(whole_runs, "inject_faults", lambda *_, **__: report)
    ours = run_whole(Case(TINY, "resume", 1, 16), tmp_path)["ours"]
    assert render_line({"case": "resume", "ours": ours}).endswith(words)


def test_several_devices_share_the_work(measured):
    measured["settings"]["precision"] = "bfloat16"
    result = add_figures(measured, {"float32": 1e6, "bfloat16": 2e6}, 4e6, processes=2)
    assert result["ours"]["mfu"] == pytest.approx(0.025)
    assert result["ours"]["mfu_data_sheet"] == pytest.approx(0.0125)


@pytest.fixture
def run(measured, monkeypatch, tmp_path):
    """`run(*words)`: the benchmark with a result for each case at once, or what `failures` has for its name; returns
    status, report and the cases that were measured."""
    failures, asked = {}, []

    def run_case(case, sides, **settings):
        asked.append((case.name, list(sides)))
        return {side: failures.get((case.name, side)) or dict(measured[side]) for side in sides}

    monkeypatch.setattr(benchmark, "run_case", run_case)
    monkeypatch.setattr(benchmark, "run_whole", lambda case, folder: run_case(case, ["ours"]))
    monkeypatch.setattr(benchmark, "measured_peak_flops", lambda *arguments, **settings: 1e12)

    def run(*words):
        asked.clear()
        status = benchmark.main([*words, "--output_dir", str(tmp_path)])
        return status, json.loads((tmp_path / "benchmark.json").read_text()), list(asked)

    run.failures = failures
    return run


def test_main_writes_table_json_and_picture_and_goes_on_with_what_failed(run, tmp_path, capsys):
    """A case that fails is a line of the table; the others go on."""
    cases, swept = choose_cases(CPU, quick=True, swept=True)
    failing = (cases[1].name, "transformers")
    run.failures[failing] = {"failed": "transformers ended with status 1:\nImportError"}
    status, report, asked = run("--quick", "--sweep")
    assert status == 1
    assert [result["case"] for result in report["cases"]] == [case.name for case in cases]
    assert len(asked) == len(cases) + len(swept)
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "transformers failed: ImportError" in output
    assert output.count(" 0.50  ") >= len(cases) - 1
    assert "| train, small, 8 x 256, dropout 0.1 " in (tmp_path / "benchmark.md").read_text()
    run.failures.clear()
    assert run("--quick", "--sweep")[2] == [(cases[1].name, list(SIDES))]
    assert len(run("--quick", "--sweep")[2]) == len(asked)  # it had finished, so this is another


def test_a_side_without_memory_gets_no_larger_batch(run):
    _, swept = choose_cases(CPU, swept=True)
    batches = sorted((case for case in swept if case.length == 256), key=lambda case: case.batch)
    run.failures[batches[3].name, "transformers"] = {"failed": "x:\nOutOfMemoryError: CUDA out of memory. Tried to ..."}
    status, report, asked = run("--sweep", "--only", "train, small")
    assert status == 0
    assert (batches[3].name, list(SIDES)) in asked
    assert (batches[4].name, ["ours"]) in asked
    ours, theirs = describe_micro_batches(report["sweep"])
    assert "16 the largest" in ours and "4 the largest" in theirs


def test_a_rehearsal_asks_for_what_a_gpu_would_be_asked(run, monkeypatch):
    with monkeypatch.context() as context:
        context.delattr(benchmark, "run_whole")  # any mistake in a case, as here a NameError, ends it alone
        status, report, asked = run("--rehearsal")
    assert status == 1
    assert [result["ours"]["failed"][:9] for result in report["cases"] if "failed" in result.get("ours", {})] == [
        "NameError",
        "NameError",
    ]
    assert all("tiny" in name for name, _ in asked)
    status, report, asked = run("--rehearsal")
    assert status == 0
    assert [name.split(",")[0] for name, _ in asked] == ["recipe", "resume"]
    skipped = {result["settings"]["kernel"]: result["skipped"] for result in report["cases"] if "skipped" in result}
    assert skipped["efficient"] == skipped["FA3"] == "a kernel for CUDA"
    assert skipped[""] == "fp16 needs a GPU"
    assert {"recipe", "resume", "evaluate", "generate"} <= {result["settings"]["work"] for result in report["cases"]}


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
    assert {case.work for _, case in benchmark.choose(arguments, CPU)} == {"generate"}


@pytest.mark.parametrize("words", [["--num_processes", "0"], ["--quickly"]])
def test_bad_words_are_refused(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmark.main(words)
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize(("has_units", "precisions"), [(True, {"float32", "bfloat16"}), (None, {"float32"})])
def test_the_cases_cover_what_is_promised(has_units, precisions, monkeypatch):
    monkeypatch.setattr("train.benchmark.cases.has_bf16_units", lambda: has_units)
    for cases in (cases_for_cpu(quick=False), cases_for_cpu(quick=True)):
        assert {case.precision for case in cases if case.work == "train"} == precisions
    full = cases_for_cpu(quick=False)
    assert {(case.model, case.batch, case.length, case.dropout) for case in full if case.work == "train"} == {
        (GPT2_124M, 4, 512, 0.0),
        (GPT2_124M, 4, 512, 0.1),
        (SMALL, 8, 256, 0.1),
    }
    assert {case.batch for case in full if case.work == "generate"} == {1, 8}
    gpu = choose_cases(CPU, rehearsal=True)
    assert {case.kernel for case in gpu[0]} == {"", "flash", "efficient", "math", "cudnn", "FA2", "FA3", "FA4"}
    assert {case.precision for case in gpu[0] if case.work == "train"} == {"bfloat16", "float16"}
    assert any(case.compiled for case in gpu[0])
    for swept in (gpu[1], choose_cases(CPU, swept=True)[1]):
        assert len({case.length for case in swept}) >= 5
        assert len({case.batch for case in swept}) >= 5
        assert len(swept) == len({case.name for case in swept})
        assert all(math.log2(case.length).is_integer() for case in swept)
