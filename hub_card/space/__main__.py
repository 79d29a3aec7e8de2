"""Chat with a trained model in a browser, or publish that page as a Space.

    python -m hub_card.space runs/demo                                   # a run's model, on this machine
    python -m hub_card.space you/name                                    # a model on the Hub, on this machine
    python -m hub_card.space you/name --publish you/name-demo --dry_run  # stage, verify, show what would go up
    python -m hub_card.space you/name --publish you/name-demo            # the same, then upload

The page shows the model's reasoning apart from its answer, word by word. On this machine, nothing leaves it. A Space
shows a model that is on the Hub already (see hub_card.publish), at its commit of today; before the upload the Space is
started in a process that does not have this package, and asked. The upload is one commit, or none where nothing is new.

Exit status: 0; 1 where the page, the check or the upload failed; 2 where the model or the arguments are not fit for it.
"""

import argparse
import importlib.util
import logging
import socket
import sys
from pathlib import Path


logger = logging.getLogger("hub_card.space")

INTERRUPTED = 130  # 128 + SIGINT


def main(words: list[str]) -> int:
    """Run the command on its words; returns the exit status."""
    try:
        return run(words)
    except KeyboardInterrupt:
        return INTERRUPTED


def run(words: list[str]) -> int:
    """As `main`, but for Ctrl-C while nothing is shown yet."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hub_card").setLevel(logging.INFO)
    arguments = parse_arguments(words)
    if importlib.util.find_spec("gradio") is None:
        logger.error("hub_card.space: gradio is not installed; pip install -c constraints.txt -e .[demo]")
        return 2
    logger.info("Opening %s ...", arguments.model)
    # From here on: these imports take seconds.
    from hub_card.upload import UploadError
    from hub_card.verification.model import VerificationError

    try:
        if arguments.publish is None:
            show(arguments)
        else:
            publish(arguments)
    except (VerificationError, UploadError, OSError) as error:
        logger.error("hub_card.space: %s", " ".join(str(error).split()))
        return 1
    except ValueError as error:
        logger.error("hub_card.space: %s", " ".join(str(error).split()))
        return 2
    return 0


def show(arguments: argparse.Namespace) -> None:
    """The page on this machine, until Ctrl-C."""
    check_address(arguments.host, arguments.port)
    import modeling_gpt2scratch  # noqa: F401 (opens what it trained, without trust in the code beside the weights)
    from hub_card.space.chat.page import serve
    from hub_card.space.model_choice import choose_model

    serve(choose_model(arguments.model), arguments.host, arguments.port)


def check_address(host: str | None, port: int | None) -> None:
    """Before the model is opened, which may take long.

    Raises:
        OSError: it cannot be listened at.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host or "127.0.0.1", port or 0))
        except (OSError, OverflowError) as error:
            raise OSError(
                f"Host {host or '127.0.0.1'}, port {port or 'any'}, cannot be used ({error}): name another --host or "
                "--port, or none."
            ) from error


def publish(arguments: argparse.Namespace) -> None:
    """Stage, verify and upload."""
    from hub_card.publish import staging_place
    from hub_card.space.model_choice import choose_published_model
    from hub_card.space.staging import stage_space
    from hub_card.staging import MAIN_BRANCH, describe_branches
    from hub_card.upload import check_repo_id, require_login, upload
    from hub_card.verification.space import verify_space

    check_repo_id(arguments.publish)
    if Path(arguments.model).is_dir():
        raise ValueError(
            f"{arguments.model} is a folder, and a Space shows a model on the Hub: publish it first (python -m "
            f"hub_card.publish {arguments.model} --repo_id you/name), then name you/name here."
        )
    check_repo_id(arguments.model)
    if not arguments.dry_run:
        require_login()
    settings, is_private = choose_published_model(arguments.model)
    with staging_place(arguments.staging_dir) as place:
        branches = {MAIN_BRANCH: stage_space(settings, place, arguments.publish)}
        verify_space(branches[MAIN_BRANCH])
        logger.info("Verified: what is staged starts without this package, and answers.")
        if settings.trust_remote_code:
            logger.warning("The Space runs the code of %s at commit %s.", settings.model, settings.revision)
        if is_private:
            logger.warning("%s is private: give the Space a secret HF_TOKEN that may read it.", settings.model)
        if arguments.dry_run:
            sys.stdout.write(describe_branches(branches, arguments.publish) + "\n")
            return
        for line in upload(branches, arguments.publish, arguments.private, is_space=True):
            logger.info("%s", line)


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hub_card.space", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a run folder, e.g. runs/demo, a checkpoint in it, or a model on the Hub")
    parser.add_argument("--host", help="address to listen at; 0.0.0.0 for other machines, too; this one alone else")
    parser.add_argument("--port", type=int, help="the first free one from 7860 where unset")
    publishing = parser.add_argument_group("publishing")
    publishing.add_argument("--publish", metavar="SPACE", help="publish the page as this Space: you/name")
    publishing.add_argument("--dry_run", action="store_true", help="stage and verify, upload nothing")
    publishing.add_argument("--private", action="store_true", help="make the Space private, if there is none yet")
    publishing.add_argument("--staging_dir", help="an empty or new folder to stage in, and to keep")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
