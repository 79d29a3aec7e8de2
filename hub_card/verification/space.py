"""The check before a Space is published: what is staged starts, and answers a question, as it would on the Hub."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from hub_card.verification.model import VerificationError


LONGEST_START_SECONDS = 1800  # the model may have to be downloaded
QUESTION = "What is this?"
ANSWER_TOKENS = 16


def verify_space(folder: Path) -> dict[str, str]:
    """Start the staged Space in a child process that cannot import this project, and ask it.

    Returns:
        Reasoning and answer.

    Raises:
        VerificationError: it does not start or does not answer; the message ends with its last words.
    """
    check = Path(__file__).with_name("start_check.py").resolve()
    port = find_free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryFile("w+") as log:
        # -P: the check's own folder, with this package's files, is not searched for modules.
        space = subprocess.Popen(
            [sys.executable, "-P", str(check), str(folder.resolve())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for_page(space, f"http://127.0.0.1:{port}/")
            return ask(f"http://127.0.0.1:{port}/")
        except (OSError, ValueError) as error:
            log.seek(0)
            last_words = (log.read().strip().splitlines() or ["no output"])[-1]
            raise VerificationError(f"The staged Space does not work: {error} It said: {last_words}") from error
        finally:
            space.kill()
            space.wait()


def wait_for_page(space: subprocess.Popen, url: str) -> None:
    """
    Raises:
        ChildProcessError: it ended.
        TimeoutError: it takes too long.
    """
    end = time.monotonic() + LONGEST_START_SECONDS
    while time.monotonic() < end:
        if space.poll() is not None:
            raise ChildProcessError(f"it ended while starting, with status {space.returncode}.")
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise TimeoutError(f"it shows no page within {LONGEST_START_SECONDS} seconds.")


def ask(url: str) -> dict[str, str]:
    """A question to the page's API.

    Raises:
        ValueError: there is no answer to it.
    """
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    try:
        return Client(url, verbose=False, analytics_enabled=False).predict(
            QUESTION, max_new_tokens=ANSWER_TOKENS, api_name="/answer"
        )
    except AppError as error:
        raise ValueError(f"it does not answer ({error}).") from error


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
