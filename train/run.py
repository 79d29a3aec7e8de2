"""A run of an entry script, from the command line to the exit status: the same for pre-training and post-training."""

import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from accelerate import PartialState
from tabulate import tabulate
from transformers import PreTrainedTokenizerBase

from train.buildable import check_buildable
from train.callbacks.graceful_stop import GracefulStop
from train.callbacks.text_samples import TextSamples
from train.checkpointing.checkpoints import put_aside_damaged
from train.checkpointing.resume import Start, find_start, finished_steps
from train.checkpointing.run_lock import decided_by_main, lock_run
from train.data.files.chunk import BadShardError
from train.errors import RunFailedError, RunRefusedError, in_one_line
from train.launcher import follow_launcher
from train.run_files import BEFORE_FILE, RECIPE_FILE, RESULTS_FILE, write_whole
from train.run_report.callback import RunReport
from train.run_report.results import draw_loss_curve, training_figures, write_results
from train.settings.arguments import RunArguments
from train.settings.parser import SettingsParser
from train.settings.recipe import AnyRecipe, RunRecipe
from train.tokenizer.opening import check_same_ids, open_tokenizer
from train.trainer.trainer import RunTrainer


logger = logging.getLogger(__name__)


def run_entry(
    script: str,  # its name, for messages
    argv: list[str],
    parse: Callable[[list[str]], AnyRecipe],
    find_parser: Callable[[list[str]], SettingsParser],  # for the settings of a checkpoint
    check_input: Callable[[AnyRecipe, PreTrainedTokenizerBase], None],  # refuses what shows before any work
    describe_plan: Callable[[AnyRecipe, PreTrainedTokenizerBase], dict[str, str]],
    train: Callable[[AnyRecipe, PreTrainedTokenizerBase], int],  # prepares, trains and saves; returns the exit status
) -> int:
    """Run an entry script; a mistake ends it with one line. Returns the exit status: that of `train`, 2 for a run that
    is refused, which leaves no new folder behind, or 1 for one that fails."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("train").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    try:
        follow_launcher()
        with ExitStack() as held:
            with refusing_mistakes():
                recipe = parse(argv)
                for line in recipe.unread:
                    logger.warning("%s: %s", script, line)
                check_buildable(recipe)
                tokenizer = open_tokenizer(recipe.all_settings["tokenizer"], recipe.all_settings["init_from"])
                if not finished_steps(recipe.run_folder):  # else nothing may be left to do
                    with suppress(*([ConnectionError] if recipe.run.dry_run else [])):  # the plan says what is unknown
                        check_input(recipe, tokenizer)
                if recipe.run.dry_run:
                    plan = describe_plan(recipe, tokenizer)
                    plan_table = tabulate(plan.items(), tablefmt="plain", disable_numparse=True)
                    sys.stdout.write(f"{recipe.to_yaml()}\n{plan_table}\n\n{find_start(recipe, find_parser)}\n")
                    return 0
                is_main = recipe.training.should_save
                start = decided_by_main(lambda: enter_run_folder(recipe, find_parser, held), is_main)
                logger.info("%s", start)
                if start.finished_steps:
                    PartialState().destroy_process_group()
                    return 0
                if start.checkpoint is not None:
                    check_same_ids(start.checkpoint, tokenizer)
                    recipe = parse([*argv, "--gradient_accumulation_steps", str(start.accumulated)])
            return train(dataclasses.replace(recipe, resume_from=start.checkpoint), tokenizer)
    except (RunRefusedError, RunFailedError, BadShardError) as error:
        tell(f"{script}: {error}")
        return 2 if isinstance(error, RunRefusedError) else 1


def tell(line: str) -> None:
    """The last line of a process that gives up. A launcher of several processes prints what it is told after its own
    traceback, so that the line is the last thing read; only one process of a machine prints it beside that."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        Path(file).write_text(json.dumps({"message": line, "timestamp": int(time.time())}), encoding="utf-8")
    if not file or os.environ.get("LOCAL_RANK", "0") == "0":
        logger.error("%s", line)


def enter_run_folder(recipe: RunRecipe, find_parser: Callable[[list[str]], SettingsParser], held: ExitStack) -> Start:
    """Take the run folder's lock for as long as `held` lasts, and read and tidy what lies there; by the main process,
    as no other start can change it from then on."""
    cannot_write = None
    try:
        held.enter_context(lock_run(recipe.run_folder))
    except OSError as error:
        cannot_write = error
    start = find_start(recipe, find_parser)
    if not start.finished_steps:  # else nothing is written
        if cannot_write is not None:
            raise cannot_write
        put_aside_damaged(recipe.run_folder, start.checkpoint)
    return start


def build_samples(run: RunArguments, tokenizer: PreTrainedTokenizerBase, as_questions: bool = True) -> TextSamples:
    prompts = run.sample_prompts or []
    return TextSamples(tokenizer, prompts, run.sample_tokens, run.sample_temperature, as_questions)


@contextmanager
def refusing_mistakes() -> Iterator[None]:
    """Around what prepares a run: impossible sizes, unreadable rows, no Hub or a full disk refuse it, in one line."""
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        raise RunRefusedError(in_one_line(error)) from error


def train_and_save(
    recipe: RunRecipe,
    trainer: RunTrainer,
    stop: GracefulStop,
    facts: dict,  # what is known before the first step, by the names of `results.json`
    measure: Callable[[], dict],  # the figures of the model as it is, with its marks as `exam`; by all processes
    describe_change: Callable[[dict, dict], dict],  # what `results.json` says of the figures before and after
) -> int:
    """Measure the model, train it, measure it again, and write model, results and curve. Returns the exit status: 0, or
    128 + the signal that stopped the training."""
    folder, writes = recipe.run_folder, recipe.training.should_save
    if writes:
        trainer.check_room()
        if not (folder / RESULTS_FILE).exists():  # else the recipe is that of the results, until there is a new model
            write_whole(folder / RECIPE_FILE, recipe.to_yaml())
    before = figures_before(folder, recipe.resume_from is not None, writes, measure)
    report = RunReport(folder, facts, recipe.run.html_report)
    trainer.add_callback(report)
    with report.noting_failure():
        trained = trainer.train(recipe.resume_from)
    if stop.signal_number is not None:
        report.write("stopped")
        logger.warning("Stopped at step %d. Add --resume_from_checkpoint true to go on.", trainer.state.global_step)
        trainer.accelerator.end_training()  # gloo's threads can abort a process that ends without
        return 128 + stop.signal_number
    evaluation = trainer.evaluate_final_model()
    results = {**facts, **describe_change(before, measure()), "tokens_seen": trainer.tokens_seen()}
    with report.noting_failure():
        trainer.save_checked_model()
    trainer.save_state()
    if writes:
        training = training_figures(trained.metrics, trainer.state.log_history, recipe.resume_from is not None)
        write_results(folder, {**results, "training": training, "evaluation": evaluation})
        draw_loss_curve(folder, trainer.state.log_history)
    report.write("finished")
    logger.info("Validation loss %.4f. Model, results and curve: %s", evaluation["eval_loss"], folder)
    trainer.accelerator.end_training()
    return 0


def figures_before(run_folder: Path, is_resumed: bool, writes: bool, measure: Callable[[], dict]) -> dict:
    """The figures of the model before its first step; a resumed run reads those that its first start wrote."""
    file = run_folder / BEFORE_FILE
    if is_resumed and file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    figures = measure()
    if writes:
        write_whole(file, json.dumps(figures))
    return figures
