"""Publish a finished run on the Hugging Face Hub.

    python -m hub_card.publish runs/demo --repo_id you/name --dry_run   # stage, verify, and show what would go up
    python -m hub_card.publish runs/demo --repo_id you/name             # the same, then upload

On the branch `main` goes what the run saved for others: weights, code, tokenizer, recipe, results, samples, and a card
made of them. On the branch `gpt2` goes the same model as a stock GPT-2, which opens without custom code:
`from_pretrained("you/name", revision="gpt2")`. Both are opened first in a process that does not have this package. Each
branch changes in one commit, or, where nothing is new, in none. Files that an earlier publishing left there and that
are no longer among these are deleted, and a card that was edited on the Hub is written over.

Exit status: 0; 1 where the check or the upload failed; 2 where the run or the arguments are not fit to start with.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub_card.staging import describe_branches, find_run, hold_run, list_local_paths, stage
from hub_card.upload import UploadError, check_repo_id, require_login, upload
from hub_card.verification.model import VerificationError, verify


logger = logging.getLogger("hub_card.publish")


def main(words: list[str]) -> int:
    """Run the script on the words of a command line; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hub_card").setLevel(logging.INFO)
    arguments = parse_arguments(words)
    try:
        check_repo_id(arguments.repo_id)
        run = find_run(arguments.run)
        if not arguments.dry_run:
            require_login()
        with staging_place(arguments.staging_dir) as place:
            publish(run, place, arguments)
    except (VerificationError, UploadError, OSError) as error:
        logger.error("publish.py: %s", error)
        return 1
    except ValueError as error:
        logger.error("publish.py: %s", error)
        return 2
    return 0


def publish(run: Path, place: Path, arguments: argparse.Namespace) -> None:
    """Stage, verify and upload."""
    with hold_run(run):
        branches = stage(run, place, arguments.repo_id, with_stock=not arguments.without_stock)
        verify(run, branches)
    logger.info("Verified: what is staged opens without this package, and computes what the run's model computes.")
    for name, path in list_local_paths(branches["main"]):
        logger.warning("%s tells everyone the local path %s.", name, path)
    if arguments.dry_run:
        sys.stdout.write(describe_branches(branches, arguments.repo_id) + "\n")
        return
    for line in upload(branches, arguments.repo_id, arguments.private):
        logger.info("%s", line)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hub_card.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a finished run folder, e.g. runs/demo")
    parser.add_argument("--repo_id", required=True, help="where to: you/name, or organization/name")
    parser.add_argument("--dry_run", action="store_true", help="stage, verify, show what would go up; upload nothing")
    parser.add_argument("--private", action="store_true", help="make the repository private, if there is none yet")
    parser.add_argument("--staging_dir", help="an empty or new folder to stage in, and to keep; a temporary one else")
    parser.add_argument(
        "--without_stock",
        action="store_true",
        help="no branch gpt2: for a model whose blocks compute something that stock GPT-2 does not",
    )
    return parser.parse_args(words)


@contextmanager
def staging_place(staging_dir: str | None) -> Iterator[Path]:
    """The folder to stage in.

    Raises:
        ValueError: `staging_dir` holds files already, which could be taken for staged ones.
    """
    if staging_dir is None:
        with tempfile.TemporaryDirectory(prefix="hub_card_") as folder:
            yield Path(folder)
        return
    place = Path(staging_dir)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ValueError(f"--staging_dir {place} is not an empty folder: name a new one, or empty it.")
    place.mkdir(parents=True, exist_ok=True)
    yield place


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
