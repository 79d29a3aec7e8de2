"""Local task files, offline; what a name that does not exist, or no lm-eval, leads to."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from train.evaluation.opened_model import open_model
from train.evaluation.result_rows import evaluation_tables
from train.evaluation.tasks import core, lm_eval_tasks
from train.evaluation.tasks.core import CORE_TASKS, CoreTask
from train.evaluation.tasks.lm_eval_tasks import find_tasks, run_tasks
from train.evaluation.tasks.published_gpt2 import PUBLISHED, published_figures


CHOICES = ["red", "blue", "green"]
TASKS = {
    "colours": """
output_type: multiple_choice
doc_to_text: "{{before}}"
doc_to_target: right
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}]
""",
    "texts": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{before}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
}


@pytest.fixture(scope="module")
def documents():
    return [{"before": f"The door of house {n} is", "choices": CHOICES, "right": n % 3} for n in range(20)]


@pytest.fixture(scope="module")
def task_folder(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    for name, task in TASKS.items():
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\ntest_split: test\n"
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}{task}")
    return folder


@pytest.fixture(scope="module")
def manager(task_folder):
    """Made once: it reads the names of all tasks."""
    return find_tasks(list(TASKS), str(task_folder))


@pytest.fixture(scope="module")
def results(manager, tiny_folder):
    opened = open_model(str(tiny_folder))
    figures, marks = run_tasks(opened, task_manager=manager, names=list(TASKS), batch_size=4)
    assert opened.tokenizer.pad_token is None  # still as it was
    return SimpleNamespace(figures=figures, marks=marks)


def nats(model, tokenizer, text: str, before: list[int]) -> torch.Tensor:
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([[*before, *ids]])).logits[0]
    return F.cross_entropy(logits[len(before) - 1 : -1], torch.tensor(ids), reduction="none")


def test_a_local_task_is_scored_as_by_hand(results, documents, tiny_model, tokenizer):
    right = []
    for document in documents:
        before = tokenizer(document["before"])["input_ids"]
        losses = [nats(tiny_model, tokenizer, f" {choice}", before).sum().item() for choice in CHOICES]
        right.append(losses.index(min(losses)) == document["right"])
    share = sum(right) / len(right)
    assert results.marks["colours", "acc"] == right
    (figure,) = [figure for figure in results.figures if figure["task"] == "colours"]
    assert (figure["metric"], figure["value"], figure["shots"]) == ("acc", pytest.approx(share), 0)
    assert figure["samples"] == 20
    assert figure["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / 19))
    assert figure["interval"] == pytest.approx(
        (max(share - 1.96 * figure["stderr"], 0), share + 1.96 * figure["stderr"]), abs=1e-4
    )
    assert figure["gpt2_small"] == []


def test_texts_have_an_interval_over_documents(results, documents, tiny_model, tokenizer):
    end = [tokenizer.eos_token_id]
    sums = [nats(tiny_model, tokenizer, document["before"], end).sum().item() for document in documents]
    text_bytes = sum(len(document["before"]) for document in documents)
    figures = {figure["metric"]: figure for figure in results.figures if figure["task"] == "texts"}
    assert figures["bits_per_byte"]["value"] == pytest.approx(sum(sums) / math.log(2) / text_bytes, rel=1e-4)
    for figure in figures.values():
        low, high = figure["interval"]
        assert low < figure["value"] < high


def test_a_limit_is_kept(manager, tiny_folder):
    (figure,), _ = run_tasks(open_model(str(tiny_folder)), task_manager=manager, names=["colours"], limit=3)
    assert figure["samples"] == 3


def test_an_unknown_name_is_refused_with_the_nearest(monkeypatch, manager):
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda include_path: manager)
    with pytest.raises(ValueError, match=r"--tasks hellaswagg: .* Nearest: hellaswag"):
        find_tasks(["hellaswagg"], None)
    with pytest.raises(ValueError, match="lm_eval ls tasks"):
        find_tasks(["@@@@@@"], None)
    with pytest.raises(ValueError, match="--task_folder nowhere"):
        find_tasks(["colours"], "nowhere")


def test_without_lm_eval_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    with pytest.raises(ValueError, match="pip install"):
        find_tasks(["hellaswag"], None)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(lm_eval_tasks, "PartialState", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match="one process"):
        find_tasks(["hellaswag"], None)


def test_published_figures_have_a_source_and_name_tasks_that_exist(manager):
    for task, metric in PUBLISHED:
        assert task in manager.task_index
        assert all(one["source"] for one in published_figures(task, metric))
    assert [one["value"] for one in published_figures("hellaswag", "acc_norm")] == [0.3114, 0.3153]
    comparable, other = published_figures("lambada_openai", "acc")
    assert (comparable["note"], bool(other["note"])) == ("", True)
    assert published_figures("no_such_task", "acc") == []


def test_core_is_22_tasks_of_which_18_can_be_used(manager):
    assert len({task.name for task in CORE_TASKS}) == 22
    lacking = {task.name for task in CORE_TASKS if task.task not in manager.task_index}
    assert lacking == {"jeopardy", "bigbench_dyck_languages", "squad"}
    with pytest.raises(ImportError):  # then train/evaluation/README.md says 19
        manager.load(["coqa"])


def test_core_shows_its_parts_and_what_is_missing(manager, tiny_folder, monkeypatch):
    """Local stand-ins; of a task without documents, the reason."""
    parts = (CoreTask("plain", 0, 0.2, "colours"), CoreTask("shown", 2, 0.5, "colours"))
    others = (
        CoreTask("gone", 0, 0.0, "no_such_task"),
        CoreTask("far", 0, 0.25, "hellaswag", "acc_norm"),
        CoreTask("old", 0, 0.0, "coqa", "em"),
        CoreTask("other", 0, 0.0, "colours", "acc_norm"),
    )
    monkeypatch.setattr(core, "CORE_TASKS", parts + others)
    options = {"task_manager": manager, "batch_size": 4, "num_fewshot": None, "limit": 12}
    opened = open_model(str(tiny_folder))
    (figure, colours), marks = run_tasks(opened, names=["core", "colours"], **options)
    plain, shown = figure["parts"]
    assert plain["value"] == colours["value"] == sum(marks["plain", "acc"]) / 12
    assert plain["centred"] == pytest.approx((plain["value"] - 0.2) / 0.8)
    assert shown["centred"] == pytest.approx((sum(marks["shown", "acc"]) / 12 - 0.5) / 0.5)
    assert figure["value"] == pytest.approx((plain["centred"] + shown["centred"]) / 2)
    expected = math.hypot(plain["stderr"] / 0.8, shown["stderr"] / 0.5) / 2
    assert figure["stderr"] == pytest.approx(expected)
    assert figure["metric"] == "centred mean of 2 of 6 tasks"
    assert figure["missing"].keys() == {"gone", "far", "old", "other"}
    assert "the documents cannot be had" in figure["missing"]["far"]
    assert "No module named 'transformers" in figure["missing"]["old"]
    assert figure["missing"]["other"] == "lm-eval gives no acc_norm for colours"

    other = {"model": {"name": "gpt2"}, "tasks": [{**figure, "parts": [{**shown, "centred": 0.125}]}], "tests": []}
    evaluation = {"model": {"name": "run"}, "tasks": [figure], "comparisons": [{**other, "notes": []}]}
    tasks, table, _ = evaluation_tables(evaluation)
    assert "0.1139 [1]" in tasks.to_text()
    text = table.to_text()
    assert text.startswith("CORE over 2 of 6, which is not to be compared with CORE")
    assert [row[-1] for row in table.rows] == ["missing", "0.1250", f"{figure['value']:.4f}"]
    assert f"shown 12 2 0.5 {shown['value']:.4f} {shown['centred']:.4f}" in " ".join(text.split())
    assert "Missing: gone, lm-eval has no such task that can be used." in text

    monkeypatch.setattr(core, "CORE_TASKS", parts)
    (whole,), _ = run_tasks(opened, names=["core"], **options)
    assert whole["metric"] == "centred mean of 2 tasks"
    assert evaluation_tables({"model": {"name": "run"}, "tasks": [whole]})[1].title == "CORE"
    monkeypatch.setattr(core, "CORE_TASKS", others)
    with pytest.raises(ValueError, match="--tasks core: none of its tasks can be had"):
        run_tasks(opened, names=["core"], **options)
