"""How good a model is: validation loss, an exam, tasks of lm-evaluation-harness; beside other models, with tests.

python -m train.evaluation runs/demo                                      # validation loss and exam
python -m train.evaluation runs/demo --tasks hellaswag piqa               # and tasks of lm-eval
python -m train.evaluation runs/demo --compare openai-community/gpt2      # is one better by more than chance?
python -m train.evaluation you/name --rows rows.parquet --exam exam.jsonl # any model with GPT-2's tokenizer, any rows
accelerate launch -m train.evaluation runs/demo --max_rows 20000          # on several GPUs

Prints tables, and writes evaluation.json (train/evaluation/record.py tells what is in it) and evaluation.png into the
run folder, or where --output_dir says.
"""

import argparse
import datetime
import logging
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import PartialState

from train.evaluation.exam.exam_record import count_too_long
from train.evaluation.exam.questions import choose_questions
from train.evaluation.findings import Findings, Plan, compare, comparison_notes, comparison_record, examine
from train.evaluation.losses.validation_rows import ValidationRows, demo_recipe, read_given, read_validation
from train.evaluation.opened_model import OpenedModel, open_model
from train.evaluation.picture import draw_evaluation
from train.evaluation.record import FORMAT, keep_earlier, read_evaluation, write_evaluation
from train.evaluation.result_rows import describe_evaluation, evaluation_tables
from train.evaluation.tasks.lm_eval_tasks import TaskSettings, find_tasks
from train.provenance import describe_hardware, git_commit
from train.run_files import EVALUATION_FILE


logger = logging.getLogger("train.evaluation")

OUTPUT_FOLDER = Path("runs/evaluation")  # for models that are no run folder


def main(words: list[str]) -> int:
    """Run the command on the words of a command line; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    arguments = parse_arguments(words)
    # Without cpu=True the processes of a distributed run on CPUs never meet: each would work alone.
    state = PartialState(cpu=not torch.accelerator.is_available())
    try:
        evaluation, folder = evaluate(arguments)
    except (ValueError, OSError) as error:
        if state.is_main_process:
            logger.error("train.evaluation: %s", error)
        state.destroy_process_group()
        return 1
    if state.is_main_process:
        evaluation = keep_earlier(evaluation, read_earlier(folder))
        tables = [table.to_text() for table in evaluation_tables(evaluation)]
        print("\n\n".join([describe_evaluation(evaluation), *tables]))
        file = write_evaluation(folder, evaluation)
        picture = draw_evaluation(folder, evaluation)
        print(f"\n{file}" + (f" and {picture}" if picture else ""))
    state.destroy_process_group()
    return 0


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="a run folder, a checkpoint, another model folder, or a Hub id")
    parser.add_argument("--compare", nargs="+", default=[], metavar="OTHER", help="other models, on the same questions")
    parser.add_argument(
        "--rows", help="a .parquet or .jsonl file, a folder of them or a Hub id (default: what the recipe held out)"
    )
    parser.add_argument("--max_rows", type=int, default=1000, help="rows to score, at most (default: 1000)")
    parser.add_argument(
        "--exam",
        help="'sample', or a .parquet or .jsonl file of rows (default: the recipe's; else validation rows with short "
        "answers)",
    )
    parser.add_argument(
        "--exam_tokens",
        type=int,
        help="tokens of an answer, reasoning included (default: the recipe's, else 128 or half of the context)",
    )
    parser.add_argument("--max_questions", type=int, default=500, help="questions to ask, at most (default: 500)")
    parser.add_argument("--no_loss", action="store_true", help="leave out the validation loss")
    parser.add_argument("--no_exam", action="store_true", help="leave out the exam")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="of lm-eval, as hellaswag arc_easy piqa mmlu")
    parser.add_argument("--task_folder", help="of task files of your own, in lm-eval's YAML form")
    parser.add_argument("--num_fewshot", type=int, help="solved examples before a task's questions (default: its own)")
    parser.add_argument("--limit", type=int, help="documents of each task, at most")
    parser.add_argument("--batch_size", type=int, default=8, help="of the tasks (default: 8)")
    parser.add_argument(
        "--output_dir", type=Path, help=f"default: the run folder; {OUTPUT_FOLDER}/NAME for what is no run folder"
    )
    arguments = parser.parse_args(words)
    for name in ("max_rows", "max_questions", "exam_tokens", "limit", "batch_size"):
        value = vars(arguments)[name]
        if value is not None and value < 1:
            instead = {"max_rows": " (--no_loss leaves the loss out)", "max_questions": " (--no_exam leaves it out)"}
            parser.error(f"--{name} {value}: at least 1{instead.get(name, '')}")
    if arguments.task_folder and not arguments.tasks:
        parser.error("--task_folder is for --tasks: name them, too")
    if arguments.no_loss and arguments.no_exam and not arguments.tasks:
        parser.error("--no_loss and --no_exam leave nothing to do but --tasks: name some")
    return arguments


def evaluate(arguments: argparse.Namespace) -> tuple[dict, Path]:
    """All that the command line asks for; returns what goes into evaluation.json, and the folder.

    Raises:
        ValueError: a model, rows, questions or tasks that cannot be had; the message says what to do.
    """
    tasks = task_manager = None
    if arguments.tasks:
        tasks = TaskSettings(
            *(arguments.tasks, arguments.task_folder, arguments.num_fewshot, arguments.limit, arguments.batch_size)
        )
        task_manager = find_tasks(tasks)
    this, *others = opened = [open_model(name) for name in (arguments.model, *arguments.compare)]
    folder = output_folder(this, arguments.output_dir)
    validation = choose_rows(this, arguments)
    questions = None
    if not arguments.no_exam:
        questions = choose_questions(this, arguments.exam, arguments.exam_tokens, validation, arguments.max_questions)
        for model in opened:
            count_too_long(model, questions)  # before anything that takes long
    plan = Plan(
        None if arguments.no_loss else validation,
        all(model.reads_after_end_of_text for model in opened),
        *(questions, tasks, task_manager),
    )
    findings, *others_findings = [examine(model, plan) for model in opened]
    evaluation = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **findings.record,
        "settings": {name: vars(arguments)[name] for name in ("max_rows", "max_questions", "num_fewshot", "limit")},
        "versions": describe_versions(with_harness=tasks is not None),
        "hardware": describe_hardware(),
        "git_commit": git_commit(),
    }
    if others:
        evaluation["comparisons"] = compare_with(this, findings, others, others_findings, plan, arguments)
    return evaluation, folder


def read_earlier(folder: Path) -> dict | None:
    """The evaluation that lies there, if this code can read it; it is about to be replaced."""
    try:
        return read_evaluation(folder)
    except ValueError:
        return None


def choose_rows(opened: OpenedModel, arguments: argparse.Namespace) -> ValidationRows | None:
    """The rows of `--rows`, else those that the model's recipe held out; for a model without one, the demo's."""
    if arguments.no_loss and (arguments.no_exam or arguments.exam):
        return None
    if arguments.rows is not None:
        return read_given(arguments.rows, arguments.max_rows)
    trained_on = opened.trained_on or demo_recipe()
    try:
        return read_validation(trained_on.data, opened.tokenizer, arguments.max_rows)
    except ValueError:
        if arguments.no_loss:
            return None  # the exam may do without
        raise


def compare_with(
    this: OpenedModel,
    findings: Findings,
    others: list[OpenedModel],
    others_findings: list[Findings],
    plan: Plan,
    arguments: argparse.Namespace,
) -> list[dict]:
    """`comparisons` of evaluation.json."""
    records = []
    for other, theirs, tests in zip(others, others_findings, compare(findings, others_findings, plan), strict=True):
        same_tokens = findings.token_ids == theirs.token_ids
        notes = comparison_notes(this, other, same_tokens, rows_are_given=arguments.rows is not None)
        records.append(comparison_record(findings, theirs, tests, notes))
    return records


def describe_versions(with_harness: bool) -> dict[str, str]:
    """Of what the figures depend on."""
    libraries = ("torch", "transformers", *(("lm_eval",) if with_harness else ()))
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def output_folder(opened: OpenedModel, asked: Path | None) -> Path:
    """Where the files go: as asked for, else the run folder, if it is one that can be written to.

    Raises:
        ValueError: it cannot be written to.
    """
    if asked is None and opened.folder is not None and opened.is_run_folder and os.access(opened.folder, os.W_OK):
        return opened.folder
    folder = asked or OUTPUT_FOLDER / opened.label.replace("/", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{EVALUATION_FILE} cannot be written into {folder} ({error}): give --output_dir.") from error
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
