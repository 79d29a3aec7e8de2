"""How good a model is: validation loss, an exam, tasks of lm-evaluation-harness; beside other models, with tests.

python -m train.evaluation runs/demo                                      # validation loss and exam
python -m train.evaluation runs/demo --tasks hellaswag piqa               # and tasks of lm-eval
python -m train.evaluation runs/demo --compare openai-community/gpt2      # is one better by more than chance?
python -m train.evaluation you/name --rows rows.parquet --exam exam.jsonl # any model with GPT-2's tokenizer, any rows
accelerate launch -q -m train.evaluation runs/demo --max_rows 20000          # on several GPUs

Prints tables, and writes evaluation.json (train/evaluation/README.md tells its keys) and evaluation.png into the run
folder, or where --output_dir says.
"""

import argparse
import datetime
import functools
import logging
import os
import sys
import tempfile
from pathlib import Path

import torch
from accelerate import PartialState

from train.errors import in_one_line
from train.evaluation.exam.questions import can_be_asked, choose_questions, count_too_long
from train.evaluation.losses.validation_rows import ValidationRows, read_given, read_validation
from train.evaluation.model_results import Plan, compare_results, measure
from train.evaluation.opened_model import OpenedModel, demo_recipe, open_model
from train.evaluation.picture import draw_evaluation
from train.evaluation.record import FORMAT, keep_earlier, write_evaluation
from train.evaluation.result_rows import describe_evaluation, evaluation_tables
from train.evaluation.tasks.core import CORE
from train.evaluation.tasks.lm_eval_tasks import find_tasks, run_tasks
from train.provenance import describe_hardware, describe_versions, git_commit
from train.run_files import EVALUATION_FILE, command_parser, filled, number, user_path


logger = logging.getLogger("train.evaluation")

OUTPUT_FOLDER = Path("runs/evaluation")  # for models that are no run folder
LARGEST = 10**9  # of a number on the command line


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    arguments = parse_arguments(argv)
    # Without cpu=True the processes of a distributed run on CPUs never meet: each would work alone.
    state = PartialState(cpu=not torch.accelerator.is_available())
    try:
        evaluation, folder = evaluate(arguments)
    except (ValueError, OSError) as error:
        if state.is_main_process:
            logger.error("train.evaluation: %s", in_one_line(error))
        return 2
    finally:
        state.destroy_process_group()
    if state.is_main_process:
        evaluation = keep_earlier(evaluation, folder)
        tables = [table.to_text() for table in evaluation_tables(evaluation)]
        print(describe_evaluation(evaluation), *tables, sep="\n\n")
        file = write_evaluation(folder, evaluation)
        picture = draw_evaluation(folder, evaluation)
        print(f"\n{file}" + (f" and {picture}" if picture else ""))
    return 0


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = command_parser("train.evaluation", __doc__)
    add, count = parser.add_argument, number(int, 1, LARGEST)
    add("model", type=filled, help="a run folder, a checkpoint, another model folder, or a Hub id")
    add("--compare", type=filled, nargs="+", default=[], metavar="OTHER", help="other models, on the same questions")
    add("--rows", type=filled, help="a .parquet or .jsonl file, folder or Hub id (default: the validation rows)")
    add(
        "--max_rows",
        type=count,
        default=1000,
        help="rows to score, at most (default: 1000); none: --no_loss",
    )
    add("--exam", type=filled, help="'sample', or a file of rows (default: the recipe's; else short validation rows)")
    add(
        "--exam_tokens",
        type=count,
        help="of an answer (default: the recipe's, else 128 or half of the context)",
    )
    add(
        "--max_questions",
        type=count,
        default=500,
        help="questions to ask, at most (500); none: --no_exam",
    )
    add("--no_loss", action="store_true", help="leave out the validation loss")
    add("--no_exam", action="store_true", help="leave out the exam")
    add("--tasks", nargs="+", metavar="TASK", help="of lm-eval, as hellaswag arc_easy piqa mmlu; core: those of CORE")
    add("--task_folder", type=user_path, help="of task files of your own, in lm-eval's YAML form")
    add(
        "--num_fewshot",
        type=number(int, 0, LARGEST),
        help="solved examples before a task's questions (default: its own)",
    )
    add("--limit", type=count, help="documents of each task, at most")
    add("--batch_size", type=count, default=8, help="of the tasks (default: 8)")
    add("--output_dir", type=user_path, help=f"default: the run folder; {OUTPUT_FOLDER}/NAME for what is no run folder")
    arguments = parser.parse_args(argv)
    if arguments.task_folder and not arguments.tasks:
        parser.error("--task_folder is for --tasks: name them, too")
    if arguments.num_fewshot is not None and CORE in (arguments.tasks or []):
        parser.error("--num_fewshot is not for --tasks core, whose tasks have numbers of their own: leave it out")
    if arguments.no_loss and arguments.no_exam and not arguments.tasks:
        parser.error("--no_loss and --no_exam leave nothing to do but --tasks: name some")
    return arguments


def evaluate(arguments: argparse.Namespace) -> tuple[dict, Path]:
    """All that the command line asks for; returns what goes into evaluation.json, and the folder. A `ValueError` where
    a model, rows, questions or tasks cannot be had."""
    tasks = None
    if arguments.tasks:
        tasks = functools.partial(
            run_tasks,
            names=arguments.tasks,
            task_manager=find_tasks(arguments.tasks, arguments.task_folder),
            num_fewshot=arguments.num_fewshot,
            limit=arguments.limit,
            batch_size=arguments.batch_size,
        )
    opened = [open_model(name) for name in (arguments.model, *arguments.compare)]
    this = opened[0]
    folder = output_folder(this, arguments.output_dir)
    validation = choose_rows(this, arguments)
    questions = None
    if not arguments.no_exam and can_be_asked(this, arguments.exam, validation):
        questions = choose_questions(this, arguments.exam, arguments.exam_tokens, validation, arguments.max_questions)
        try:
            for model in opened:
                count_too_long(model, questions)  # before anything that takes long
        except ValueError as error:
            if arguments.exam or arguments.exam_tokens or (arguments.no_loss and not tasks):
                raise  # it was asked for
            logger.warning("The exam is left out. %s", error)
            questions = None
    plan = Plan(
        validation=None if arguments.no_loss else validation,
        score_first=all(model.reads_after_end_of_text for model in opened),
        questions=questions,
        run_tasks=tasks,
    )
    results, *others = [measure(model, plan) for model in opened]
    evaluation = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **results.record,
        "settings": {name: vars(arguments)[name] for name in ("max_rows", "max_questions", "num_fewshot", "limit")},
        "versions": describe_versions(*(["lm_eval"] if tasks else [])),
        "hardware": describe_hardware(),
        "git_commit": git_commit(),
    }
    if others:
        evaluation["comparisons"] = compare_results(results, others, plan, rows_are_given=arguments.rows is not None)
    return evaluation, folder


def choose_rows(opened: OpenedModel, arguments: argparse.Namespace) -> ValidationRows | None:
    """The rows of `--rows`, else the validation rows of the model's recipe; for a model without one, of the demo's."""
    if arguments.no_loss and (arguments.no_exam or arguments.exam):
        return None
    if arguments.rows is not None:
        return read_given(arguments.rows, arguments.max_rows)
    data = (opened.trained_on or demo_recipe()).data
    try:
        return read_validation(data, opened.tokenizer, arguments.max_rows)
    except ValueError:
        if arguments.no_loss:
            return None  # the exam may do without
        raise


def output_folder(opened: OpenedModel, asked: Path | None) -> Path:
    """Where the files go: as asked for, else the run folder, if it is one that can be written to."""
    if asked is None and opened.folder and opened.is_run_folder and os.access(opened.folder, os.W_OK):
        return opened.folder
    folder = asked or OUTPUT_FOLDER / opened.label.replace("/", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # what lies on a read-only disk shows here, and not at the end
    except OSError as error:
        raise ValueError(f"{EVALUATION_FILE} cannot be written into {folder} ({error}): give --output_dir.") from error
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
