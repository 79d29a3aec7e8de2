"""CORE of DataComp-LM (Li et al., 2024, arXiv 2406.11794): the mean over 22 tasks of the accuracy above chance, 0 for
guessing and 1 for no mistakes. Tasks, shots and chance levels are those of its eval_meta_data_v1.csv."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


CORE = "core"  # among the names of tasks


class CoreTask(NamedTuple):
    name: str  # DataComp-LM's
    shots: int
    chance: float
    task: str  # lm-eval's; where that has none, `--task_folder` may hold one of this name
    metric: str = "acc"


CORE_TASKS = (
    CoreTask("hellaswag_zeroshot", 0, 0.25, "hellaswag", "acc_norm"),
    CoreTask("jeopardy", 10, 0.0, "jeopardy", "exact_match"),
    CoreTask("bigbench_qa_wikidata", 10, 0.0, "bigbench_qa_wikidata_generate_until", "exact_match"),
    CoreTask("arc_easy", 10, 0.25, "arc_easy", "acc_norm"),
    CoreTask("arc_challenge", 10, 0.25, "arc_challenge", "acc_norm"),
    CoreTask("copa", 0, 0.5, "copa"),
    CoreTask("commonsense_qa", 10, 0.2, "commonsense_qa"),
    CoreTask("piqa", 10, 0.5, "piqa", "acc_norm"),
    CoreTask("openbook_qa", 0, 0.25, "openbookqa", "acc_norm"),
    CoreTask("lambada_openai", 0, 0.0, "lambada_openai"),
    CoreTask("hellaswag", 10, 0.25, "hellaswag", "acc_norm"),
    CoreTask("winograd", 0, 0.5, "wsc273"),
    CoreTask("winogrande", 0, 0.5, "winogrande"),
    # lm-eval strips punctuation, which is all that these answers consist of.
    CoreTask("bigbench_dyck_languages", 10, 0.0, "bigbench_dyck_languages", "exact_match"),
    CoreTask("agi_eval_lsat_ar", 3, 0.2, "agieval_lsat_ar", "acc_norm"),
    CoreTask("bigbench_cs_algorithms", 10, 0.0, "bigbench_cs_algorithms_generate_until", "exact_match"),
    CoreTask("bigbench_operators", 10, 0.0, "bigbench_operators_generate_until", "exact_match"),
    CoreTask("bigbench_repeat_copy_logic", 10, 0.0, "bigbench_repeat_copy_logic_generate_until", "exact_match"),
    CoreTask("squad", 10, 0.0, "squad", "exact_match"),  # lm-eval's squadv2 has questions without an answer
    CoreTask("coqa", 0, 0.0, "coqa", "em"),  # lm-eval's imports a module that transformers 5.23 does not have
    CoreTask("boolq", 10, 0.62, "boolq"),
    CoreTask("bigbench_language_identification", 10, 0.091, "bigbench_language_identification_multiple_choice"),
)
GPT2_SMALL = {
    "value": 0.1139,
    "shots": None,
    "source": "karpathy/nanochat, dev/estimate_gpt3_core.ipynb (openai-community/gpt2)",
    "note": "all 22 tasks, in DataComp-LM's own form of the questions",
}


def run_core(run: Callable[..., tuple[list[dict], dict]], known: Any) -> tuple[dict, dict]:
    """The figure of CORE in `tasks` of evaluation.json, with its `parts` and what is `missing`; and the marks by task
    and metric. `run(names=..., num_fewshot=...)` runs tasks among the `known` names. A `ValueError` if there are none.
    """
    parts, marks, missing = [], {}, {}
    for core in CORE_TASKS:
        if core.task not in known:
            missing[core.name] = "lm-eval has no such task that can be used"
            continue
        try:
            figures, task_marks = run(names=[core.task], num_fewshot=core.shots)
        except ValueError as error:  # its documents cannot be had
            missing[core.name] = str(error).partition(": ")[2]
            continue
        metrics = (core.metric, "exact_match")  # the latter in task files of one's own
        figure = next((one for one in figures if one["task"] == core.task and one["metric"] in metrics), None)
        if figure is None:
            missing[core.name] = f"lm-eval gives no {core.metric} for {core.task}"
            continue
        kept = {key: figure[key] for key in ("value", "stderr", "samples")}
        parts.append(core._asdict() | kept | {"centred": (figure["value"] - core.chance) / (1 - core.chance)})
        if (core.task, figure["metric"]) in task_marks:
            marks[core.name, core.metric] = task_marks[core.task, figure["metric"]]
    if not parts:
        raise ValueError(f"--tasks {CORE}: none of its tasks can be had: {next(iter(missing.values()))}")
    value = sum(part["centred"] for part in parts) / len(parts)
    errors = [(part["stderr"] or 0.0) / (1 - part["chance"]) for part in parts]
    stderr = math.hypot(*errors) / len(parts)
    figure = {
        "task": CORE,
        "metric": f"centred mean of {f'{len(parts)} of ' if missing else ''}{len(CORE_TASKS)} tasks",
        "filter": "none",
        "part_of_group": False,
        "value": value,
        "stderr": stderr,
        "interval": (value - 1.96 * stderr, value + 1.96 * stderr),
        "samples": sum(part["samples"] for part in parts),
        "shots": None,
        "gpt2_small": [GPT2_SMALL],
        "parts": parts,
        "missing": missing,
    }
    return figure, marks
