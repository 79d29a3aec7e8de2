"""Chat with a trained model in a browser, or publish that page as a Space.

    python -m hub_card.space runs/demo                                   # a run's model, on this machine
    python -m hub_card.space you/name                                    # a model on the Hub, on this machine
    python -m hub_card.space you/name --publish you/name-chat --dry_run  # stage, verify, show what would go up
    python -m hub_card.space you/name --publish you/name-chat            # the same, then upload

Both pages show the model's reasoning apart from its answer, word by word. On this machine, nothing leaves it. A Space
is a static page, free for everyone, in which the model runs in the visitor's browser. It shows a model that is on the
Hub already (see hub_card.publish), at its commit of today. Before the upload, Chromium asks it the example questions,
and its tokens are compared with torch's. The upload is one commit, or none where nothing is new.

Exit status: 0; 1 where the page, the check or the upload failed; 2 where the model or the arguments are not fit for it.
"""

import argparse
import importlib.util
import logging
import os
import socket
import sys
from functools import partial
from pathlib import Path

from hub_card.publishing import add_arguments, publish, report_errors
from hub_card.upload import MAIN_BRANCH
from train.run_files import command_parser, filled


logger = logging.getLogger("hub_card.space")

# Imports of torch and gradio stand in the functions that need them, so that --help takes no seconds.


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    parser = command_parser("hub_card.space", __doc__)
    parser.add_argument(
        "model", type=filled, help="a run folder, e.g. runs/demo, a checkpoint in it, or a model on the Hub"
    )
    parser.add_argument("--host", help="address to listen at; 0.0.0.0 for other machines, too; this one alone else")
    parser.add_argument("--port", type=int, help="the first free one from 7860 where unset")
    publishing = parser.add_argument_group("publishing")
    publishing.add_argument("--publish", type=filled, metavar="SPACE", help="publish the page as this Space: you/name")
    publishing.add_argument("--without_check", action="store_true", help="where there is no Chromium or npm")
    add_arguments(publishing)
    return report_errors(partial(run, parser.parse_args(argv)), "hub_card.space")


def run(arguments: argparse.Namespace) -> None:
    if arguments.publish:
        publish_space(arguments)
        return
    if importlib.util.find_spec("gradio") is None:
        raise ValueError("gradio is not installed: pip install -c constraints.txt -e .[demo]")
    check_address(arguments.host, arguments.port)
    logger.info("Opening %s ...", arguments.model)
    from hub_card.space.local_page import LAUNCH_OPTIONS, build_page
    from hub_card.space.model_choice import choose_model

    page = build_page(choose_model(arguments.model))
    page.launch(server_name=arguments.host, server_port=arguments.port, share=False, **LAUNCH_OPTIONS)


def check_address(host: str | None, port: int | None) -> None:
    """Refuse, by a `ValueError`, an address that the page cannot have."""
    try:
        if port == 0:
            raise OverflowError("a port is 1 to 65535")
        socket.create_server((host or "127.0.0.1", port or 0)).close()
    except (OSError, OverflowError, UnicodeError) as error:
        given = " ".join(f"--{name} {value}" for name, value in (("host", host), ("port", port)) if value is not None)
        raise ValueError(
            f"{given}: cannot listen there ({error}); without them, it is the first free port from 7860, for this "
            "machine alone."
        ) from error


def publish_space(arguments: argparse.Namespace) -> None:
    if Path(arguments.model).expanduser().is_dir():
        raise ValueError(
            f"{arguments.model} is a folder, and a Space shows a model on the Hub: publish it first (python -m "
            f"hub_card.publish {arguments.model} --repo_id you/name), then name you/name here."
        )
    from hub_card.verification.check_space import find_browser

    if not arguments.without_check:
        find_browser()
    stage = partial(stage_and_verify, arguments.model, arguments.publish, not arguments.without_check)
    publish(arguments, arguments.publish, stage, kind="space")


def stage_and_verify(model_id: str, space_id: str, is_checked: bool, place: Path) -> dict[str, Path]:
    """The staged folder of the Space's one branch."""
    from hub_card.space.model_choice import choose_published_model
    from hub_card.space.staging import stage_space
    from hub_card.verification.check_space import verify_space

    settings = choose_published_model(model_id)
    branches = stage_space(settings, place, space_id)
    if is_checked:
        logger.info("Verified: %s.", verify_space(branches[MAIN_BRANCH], settings))
    return branches


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of Gradio are daemons, and one that Python's end cuts off inside compiled code aborts the
    # process.
    os._exit(status)
