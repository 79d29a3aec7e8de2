"""Asks the model of a staged Space in Chromium, with all that the page fetches served from this machine."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

import torch
from huggingface_hub import snapshot_download

from hub_card.space.model_choice import Settings
from hub_card.space.staging import LIBRARY, SETTINGS_FILE
from hub_card.verification.without_project import VerificationError
from modeling_gpt2scratch.loading import load_own_tokenizer, load_whole_model
from train.evaluation.exam.answers import questions_to_prompts


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RUNTIME = "onnxruntime-web"
MOST_SECONDS = 600  # for all answers
MOST_TOKENS = 40  # of an answer
LEAST_SAME = 0.9  # of the tokens: the browser computes in 8 bits
CHECK_PAGE = Path(__file__).with_suffix(".html")  # asks the worker


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and hands what is sent to it to a queue."""

    extensions_map = {
        ".html": "text/html",
        ".css": "text/css",
        ".json": "application/json",
        ".wasm": "application/wasm",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        "": "application/octet-stream",
    }

    def __init__(self, *arguments, results: Queue, **options):
        self.results = results
        super().__init__(*arguments, **options)

    def do_POST(self) -> None:
        self.results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Of a folder, on a free local port."""

    def __init__(self, site: Path):
        self.results: Queue = Queue()  # what pages have sent
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(site), results=self.results))
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: object) -> None:
        """A browser breaks off what it no longer wants; what it misses, the page tells."""


def find_browser() -> str:
    """Chromium's path; a `ValueError` where it or npm is missing."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or shutil.which("npm") is None:
        raise ValueError(
            "The check of a Space needs Chromium and npm, which are not both here: install them (apt-get install "
            "chromium npm), or leave the check out (--without_check)."
        )
    return browser


def verify_space(folder: Path, settings: Settings) -> str:
    """Ask the example questions in Chromium, and compare with torch; returns what there is to tell. A
    `VerificationError` where no answer comes, or tokens differ by more than 8 bits explain."""
    browser = find_browser()
    model_folder = Path(snapshot_download(settings.model, revision=settings.revision))
    with tempfile.TemporaryDirectory(prefix="hub_card_check_", ignore_cleanup_errors=True) as work:
        site = build_site(folder, settings, model_folder, Path(work))
        longest = min(MOST_TOKENS, (settings.context or MOST_TOKENS) // 2)
        given = {"settings": json.loads((site / SETTINGS_FILE).read_text()), "questions": settings.examples}
        (site / "check.json").write_text(json.dumps({**given, "longest": longest}))
        shutil.copy(CHECK_PAGE, site / "check.html")
        with Server(site) as server:
            replies = _ask(browser, server, Path(work))
            server.shutdown()
    return compare_with_torch(model_folder, settings, replies)


def build_site(folder: Path, settings: Settings, model_folder: Path, work: Path) -> Path:
    """A folder to serve: the page with its settings changed to fetch from there, the library, and the model."""
    site = Path(shutil.copytree(folder, work / "site"))
    here = {**json.loads((site / SETTINGS_FILE).read_text()), "host": "/", "cdn": "/npm/"}
    (site / SETTINGS_FILE).write_text(json.dumps(here))
    place = site / settings.model / "resolve" / str(settings.revision)
    place.parent.mkdir(parents=True)
    place.symlink_to(model_folder.resolve())
    library = fetch_package(LIBRARY, site / "npm")
    version = json.loads((library / "package.json").read_text())["dependencies"][RUNTIME]
    fetch_package(f"{RUNTIME}@{version}", site / "npm")
    return site


def fetch_package(name: str, place: Path) -> Path:
    """A package of npm's registry, without those that it depends on; npm keeps a copy for the next time."""
    folder = place / name
    folder.mkdir(parents=True)
    command = ["npm", "pack", "--prefer-offline", "--silent", "--pack-destination", str(folder), name]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        raise VerificationError(f"npm cannot fetch {name} ({reason}): try again, or leave the check out.")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    for part in (folder / "package").iterdir():
        part.rename(folder / part.name)
    return folder


def _ask(browser: str, server: Server, work: Path) -> list:
    options = ["--headless=new", "--disable-gpu", f"--user-data-dir={work / 'browser'}"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it does not start otherwise
    command, null = [browser, *options, f"{server.url}check.html"], subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)
    try:
        result = server.results.get(timeout=MOST_SECONDS)
    except Empty:
        raise VerificationError(f"The staged page gave no answer in {MOST_SECONDS} seconds.") from None
    finally:
        process.terminate()
        process.wait()
    if "error" in result:
        raise VerificationError(f"The staged page does not work in Chromium: {result['error']}")
    return result["replies"]


@torch.no_grad()
def compare_with_torch(model_folder: Path, settings: Settings, replies: list[tuple[list[int], list[int]]]) -> str:
    """Whether each token of the replies is the likeliest, after prompts as in training."""
    model, tokenizer = load_whole_model(model_folder), load_own_tokenizer(model_folder)
    rows = [{"query": question, "exercise": "", "constraints": None} for question in settings.examples]
    if questions_to_prompts(rows, tokenizer) != [prompt for prompt, _ in replies]:
        raise VerificationError("The staged page asks with other tokens than the model was trained on.")
    same = total = 0
    for prompt, text in replies:
        likeliest = model(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1].argmax(-1)
        same, total = same + int((likeliest == torch.tensor(text)).sum()), total + len(text)
    if same < LEAST_SAME * total:
        raise VerificationError(f"Only {same} of {total} tokens that the staged page writes are those of torch.")
    return f"{same} of {total} tokens of {len(replies)} answers in Chromium are those of torch"
