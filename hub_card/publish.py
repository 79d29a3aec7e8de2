"""Publish a finished run on the Hugging Face Hub.

    python -m hub_card.publish runs/demo --repo_id you/name --dry_run   # stage, verify, and show what would go up
    python -m hub_card.publish runs/demo --repo_id you/name             # the same, then upload

The branch `main` gets weights, code, tokenizer, recipe, results, samples, and a card made of them. The branch `gpt2`
gets the same model as Hugging Face's GPT-2, which opens without custom code: `from_pretrained("you/name",
revision="gpt2")`. Both are opened first in a process that does not have this package. Each branch changes in one
commit, or, where nothing is new, in none. Files of an earlier publishing that are no longer staged are deleted, and a
card that was edited on the Hub is written over.

Exit status: 0; 1 where the check or the upload failed; 2 where the run or the arguments are not fit to start with.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from hub_card.publishing import add_arguments, publish, report_errors
from hub_card.staging import find_run, list_local_paths, stage
from hub_card.verification.verify import verify_model
from train.run_files import command_parser, user_path
from train.run_report.run_record import hold_run


logger = logging.getLogger("hub_card.publish")


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("hub_card.publish", __doc__)
    parser.add_argument("run", type=user_path, help="a finished run folder, e.g. runs/demo")
    parser.add_argument("--repo_id", required=True, help="where to: you/name, or organization/name")
    parser.add_argument(
        "--without_hf_gpt2",
        action="store_true",
        help="no branch gpt2: for a model whose blocks compute something that Hugging Face's GPT-2 does not",
    )
    add_arguments(parser)
    return report_errors(partial(run, parser.parse_args(argv)), "hub_card.publish")


def run(arguments: argparse.Namespace) -> None:
    repo_id, with_export = arguments.repo_id, not arguments.without_hf_gpt2
    publish(arguments, repo_id, partial(stage_and_verify, find_run(arguments.run), repo_id, with_export))


def stage_and_verify(run_folder: Path, repo_id: str, with_export: bool, place: Path) -> dict[str, Path]:
    """The staged folder of each branch."""
    with hold_run(run_folder):
        branches = stage(run_folder, place, repo_id, with_export)
        verify_model(run_folder, branches)
    logger.info("Verified: what is staged opens without this package, and computes what the run's model computes.")
    for file, path in list_local_paths(branches["main"]):
        logger.warning("%s tells everyone the local path %s.", file, path)
    return branches


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
