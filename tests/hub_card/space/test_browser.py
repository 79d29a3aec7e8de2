"""The page in Chromium, as `python -m hub_card.space` serves it, with no network but that to it."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


Client = pytest.importorskip("gradio_client").Client
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the path"),
]
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
WAIT_MS = 30_000


class Server:
    """`python -m hub_card.space FOLDER` in a child process."""

    def __init__(self, folder: Path, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}/", log
        command = [sys.executable, "-m", "hub_card.space", str(folder), "--port", str(port)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background jobs
        )

    def wait(self) -> None:
        while True:
            assert self.process.poll() is None, self.log.read_text()
            try:
                return urllib.request.urlopen(self.url, timeout=10).close()
            except OSError:
                time.sleep(0.2)


@pytest.fixture(scope="module")
def server(model_folder, tmp_path_factory) -> Iterator[Server]:
    server = Server(model_folder, tmp_path_factory.mktemp("browser") / "log.txt")
    server.wait()
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def chromium():
    playwright.expect.set_options(timeout=WAIT_MS)
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A visitor's page, with what went wrong in it."""

    def __init__(self, browser, url: str, size: str):
        width, height = SIZES[size]
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(WAIT_MS)
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.route(re.compile(f"^(?!{re.escape(url)}|data:|blob:)"), self._refuse)
        self.page.goto(url)
        self.box = self.page.get_by_role("textbox", name="Question")
        self.box.wait_for()

    def _refuse(self, route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def ask(self, question: str) -> None:
        playwright.expect(self.box).to_be_enabled()
        self.box.fill(question)
        self.box.press("Enter")

    def expect(self, text: str, times: int = 1) -> None:
        playwright.expect(self.page.get_by_text(text, exact=True)).to_have_count(times)

    def open_settings(self) -> None:
        self.page.get_by_text("Answer settings", exact=True).click()
        self.page.get_by_role("spinbutton", name="Longest reply").wait_for()

    def set(self, label: str, value: float) -> None:
        """Again, where Gradio sets the first value once more while the settings open."""
        field = self.page.get_by_role("spinbutton", name=label)
        for _ in range(20):
            field.fill(str(value))
            field.press("Enter")
            self.page.wait_for_timeout(200)
            if field.input_value() == str(value):
                return
        raise AssertionError(f"{label} stays at {field.input_value()}, not {value}")

    def check(self) -> None:
        assert self.errors == []
        assert self.outside == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(params=SIZES)
def page(request, chromium, server) -> Iterator[Page]:
    page = Page(chromium, server.url, request.param)
    yield page
    page.check()
    page.page.close()


only_desktop = pytest.mark.parametrize("page", ["desktop"], indirect=True)
only_phone = pytest.mark.parametrize("page", ["phone"], indirect=True)


def test_an_example_shows_reasoning_apart_from_the_answer(page):
    page.page.get_by_text("Who wrote Emma?").click()
    page.expect("Emma is a novel by Austen.")
    page.expect("Jane Austen")
    reasoning = page.page.get_by_text("Reasoning", exact=True)
    inside = page.page.locator(".thought-group, .thought").filter(has=reasoning)
    assert inside.get_by_text("Emma is a novel by Austen.").count() == 1
    assert inside.get_by_text("Jane Austen").count() == 0
    reasoning.click()  # it folds
    playwright.expect(page.page.get_by_text("Emma is a novel by Austen.")).to_be_hidden()
    playwright.expect(page.page.get_by_text("Jane Austen")).to_be_visible()


def test_a_text_comes_word_by_word_until_it_is_stopped(page):
    page.page.evaluate(
        """() => { window.seen = new Set(); new MutationObserver(() =>
            window.seen.add(document.querySelectorAll('.message.bot')[0]?.textContent.length)
        ).observe(document.body, {childList: true, subtree: true, characterData: true}); }"""
    )
    page.open_settings()
    page.set("Longest reply", 8000)
    page.ask("Count.")
    playwright.expect(page.page.get_by_text("one and one and one")).to_be_visible()
    page.page.get_by_test_id("stop-button").click()
    playwright.expect(page.page.get_by_test_id("stop-button")).to_have_count(0)
    assert page.page.evaluate("window.seen.size") > 3
    written = page.page.get_by_text("one and one and one").text_content()
    assert written.count("one") < 3000  # of 8,000 tokens
    page.ask("Who wrote Emma?")  # the model is free again
    page.expect("Jane Austen")
    assert page.page.get_by_text("one and one and one").text_content() == written


@only_desktop
def test_settings_reach_the_model(page):
    page.open_settings()
    page.set("Longest reply", 5)
    page.ask("Count.")
    playwright.expect(page.page.get_by_text("The reply breaks off")).to_be_visible()
    page.expect("one and one")
    page.set("Longest reply", 200)
    page.set("Temperature", 2)
    page.set("Top p", 1)
    page.set("Top k", 0)
    page.ask("Who wrote Emma?")
    playwright.expect(page.page.locator(".message.user")).to_have_count(2)
    playwright.expect(page.page.get_by_test_id("stop-button")).to_have_count(0)
    page.expect("Jane Austen", times=0)


@only_phone
def test_retry_undo_and_clear(page):
    page.ask("Who wrote Emma?")
    page.expect("Jane Austen")
    page.page.get_by_role("button", name="Retry").click()
    page.expect("Jane Austen")
    page.page.get_by_role("button", name="Undo").click()
    playwright.expect(page.box).to_have_value("Who wrote Emma?")
    page.expect("Jane Austen", times=0)
    page.box.press("Enter")
    page.expect("Jane Austen")
    page.page.get_by_role("button", name="Clear").click()
    page.expect("Jane Austen", times=0)
    playwright.expect(page.page.get_by_text("Count.")).to_be_visible()  # an example


@only_phone
def test_what_cannot_be_asked_is_said(page):
    page.ask("why " * 8200)
    playwright.expect(page.page.get_by_text("8,204 tokens, and the context of 8,192")).to_be_visible()
    assert page.box.input_value() == "why " * 8200
    (refused,) = page.errors  # which is how the page hears of it
    assert "422" in refused
    page.errors.clear()
    page.ask("Who wrote Emma?")
    page.expect("Jane Austen")


@only_desktop
def test_two_visitors_and_a_program_take_turns(page, chromium, server):
    other = Page(chromium, server.url, "desktop")
    page.open_settings()
    page.set("Longest reply", 300)
    page.ask("Count.")
    other.ask("Who wrote Emma?")
    reply = Client(server.url, verbose=False, analytics_enabled=False).predict("Who wrote Emma?", api_name="/answer")
    assert [message["content"] for message in reply] == ["Emma is a novel by Austen.", "Jane Austen"]
    other.expect("Jane Austen")
    playwright.expect(page.page.get_by_text("The reply breaks off")).to_be_visible()
    other.page.close()


@only_phone
def test_texts_are_shown_as_written_and_fetch_nothing(page):
    """Of the visitor's text; the model's goes the same way."""
    text = (
        '  a*b*c $$12 to $$15 <b>x</b> &lt; <source_1> ![i](http://example.invalid/a.png) <img src="http://example.invalid">'
        "\n1. one\n\n\n5. five\n    `four`  spaces " + "x" * 500
    )
    page.ask(text)
    shown = page.page.locator(".message.user .md")
    playwright.expect(shown).to_have_text(re.compile(r"a\*b\*c"))
    assert shown.inner_text() == text
    assert shown.locator("*").count() == 0


def test_ctrl_c_ends_it_while_the_model_writes(server):
    """The last one: afterwards nothing is served."""
    job = Client(server.url, verbose=False, analytics_enabled=False).submit("Count.", api_name="/answer")
    while not job.outputs():
        assert not job.done(), job.outputs()
        time.sleep(0.05)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(60) == 0
    assert server.url.rstrip("/") in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
