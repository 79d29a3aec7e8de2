"""The way that models and Spaces have in common: stage, verify, then show what would go up, or upload it."""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from huggingface_hub.utils import build_hf_headers

from hub_card.upload import UploadError, check_repo_id, list_files, upload
from hub_card.verification.without_project import VerificationError
from train.run_files import user_path


logger = logging.getLogger(__name__)


def add_arguments(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--dry_run", action="store_true", help="stage, verify, show what would go up; upload nothing")
    parser.add_argument("--private", action="store_true", help="make the repository private, if there is none yet")
    parser.add_argument(
        "--staging_dir", type=user_path, help="an empty or new folder to stage in, and to keep; a temporary one else"
    )


def publish(
    arguments: argparse.Namespace, repo_id: str, stage: Callable[[Path], dict[str, Path]], kind: str = "model"
) -> None:
    """Publish a model or a space as the arguments of `add_arguments` say; `stage` fills the given folder, verifies what
    is in it, and gives back the folder of each branch. A `ValueError` where run or arguments are not fit for it, a
    `VerificationError` or an `UploadError` where that failed."""
    check_repo_id(repo_id)
    if not arguments.dry_run:
        build_hf_headers(token=True)  # an OSError where no token is stored here
    with tempfile.TemporaryDirectory(prefix="hub_card_") as temporary:
        place = arguments.staging_dir or Path(temporary)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise ValueError(f"--staging_dir {place} is not an empty folder: name a new one, or empty it.")
        place.mkdir(parents=True, exist_ok=True)
        branches = stage(place)
        if arguments.dry_run:
            sys.stdout.write(describe_branches(branches, repo_id) + "\n")
        else:
            for line in upload(branches, repo_id, arguments.private, kind):
                logger.info("%s", line)


def describe_branches(branches: dict[str, Path], repo_id: str) -> str:
    """The files that would be uploaded, with sizes in bytes."""
    lines = []
    for branch, folder in branches.items():
        sizes = {path: file.stat().st_size for path, file in list_files(folder).items()}
        lines.append(f"{repo_id}, branch {branch}: {len(sizes)} files, {sum(sizes.values()):,} bytes")
        lines += [f"  {size:>15,}  {name}" for name, size in sizes.items()]
    return "\n".join(lines)


def report_errors(command: Callable[[], None], name: str) -> int:
    """Run a command; an error becomes one line, and the exit status that the commands' help tells."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hub_card").setLevel(logging.INFO)
    try:
        command()
    except (VerificationError, UploadError, OSError, ValueError) as error:
        logger.error("%s: %s", name, " ".join(str(error).split()))
        # UnicodeError and the like are ValueErrors, and some OSErrors of huggingface_hub are both.
        return 2 if isinstance(error, ValueError) and not isinstance(error, OSError) else 1
    return 0
