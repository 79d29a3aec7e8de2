"""The page in a real browser, from the disk, on a phone and on a desktop; screenshots are left in pytest's folder."""

import json
import shutil

import pytest
from playwright.sync_api import sync_playwright

from train.run_report import page as page_module
from train.run_report.page import write_page
from train.run_report.run_record import read_run


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")

SIZES = {"phone": (390, 844), "desktop": (1280, 900), "narrowest": (360, 640)}
HOSTILE = """</td></script><script>document.title = "owned"</script><img src=x onerror="document.title = 'owned'">"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """`open_page(file, size)`: the page, opened from the disk. What it complains of, or asks a network for, fails the
    test."""
    troubles, contexts = [], []

    def open_page(file, size="desktop", **options):
        width, height = SIZES[size]
        is_phone = size != "desktop"
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=is_phone, is_mobile=is_phone, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: None if is_local(request.url) else troubles.append(request.url))
        context.set_offline(True)
        page.clock.install()
        page.goto(file.as_uri())
        return page

    def is_local(url):
        return url.startswith(("file:", "data:", "blob:"))

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def points(page, chart, line=0):
    """The points of a line as they are drawn: each has a place on the screen that is a number."""
    return page.evaluate(
        """([chart, line]) => {
            const plot = document.getElementById("chart-" + chart);
            const {xaxis, yaxis} = plot._fullLayout;
            const places = plot.calcdata[line].map((point) => [xaxis.c2p(point.x), yaxis.c2p(point.y)]);
            return places.filter((place) => place.every((number) => number >= -1 && number <= 2000)).length;
        }""",
        [chart, line],
    )


@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("desktop", "dark"), ("narrowest", "dark")])
def test_a_finished_run_on_screens_of_any_size(finished_run, open_page, tmp_path, size, scheme):
    page = open_page(finished_run / "report.html", size, color_scheme=scheme)
    log = json.loads((finished_run / "trainer_state.json").read_text())["log_history"]
    logged = [line for line in log if "loss" in line]
    assert page.title() == "tiny: finished"
    assert points(page, "loss") == len(logged) == 12
    assert page.locator("#chart-loss .scatterlayer .points path").count() == points(page, "loss", 1) == 3
    for chart, name in (("rate", "learning_rate"), ("norm", "grad_norm"), ("speed", "tokens_per_second")):
        assert points(page, chart) == sum(name in line for line in log) > 0
        assert page.locator(f"#chart-{chart} .scatterlayer path.js-line").get_attribute("d").startswith("M")
    page.screenshot(path=tmp_path / f"{size}-{scheme}.png", full_page=True)
    assert overflow(page) <= 0
    for panel in page.locator("details").all():
        panel.evaluate("panel => panel.open = true")
    page.screenshot(path=tmp_path / f"{size}-{scheme}-open.png", full_page=True)
    assert overflow(page) <= 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 21, 27)"
    assert dark == (scheme == "dark")


def test_a_point_tells_its_exact_value(finished_run, open_page, tmp_path):
    page = open_page(finished_run / "report.html")
    log = json.loads((finished_run / "trainer_state.json").read_text())["log_history"]
    page.evaluate("Plotly.Fx.hover('chart-loss', [{curveNumber: 0, pointNumber: 5}])")
    page.clock.run_for(1000)
    label = page.locator("#chart-loss .hoverlayer").text_content()
    (line,) = [line for line in log if line["step"] == 6 and "loss" in line]
    assert f"{line['loss']:.4f} at step 6" in label
    page.screenshot(path=tmp_path / "hover.png")


def test_the_x_axes_can_be_logarithmic(finished_run, open_page):
    page = open_page(finished_run / "report.html")
    page.locator("#log-x").check()
    for chart in ("loss", "norm"):
        assert page.evaluate("id => document.getElementById(id)._fullLayout.xaxis.type", f"chart-{chart}") == "log"
        assert points(page, chart) == 12


def test_charts_keep_their_axes_when_they_are_drawn_again(finished_run, open_page):
    page = open_page(finished_run / "report.html")

    def ticks():
        return page.evaluate(
            """[...document.querySelectorAll(".plot")].map(
                (plot) => [...plot.querySelectorAll(".xtick text, .ytick text")].map((tick) => tick.textContent))"""
        )

    for _ in range(2):
        before = ticks()
        assert len(before) == 7 and all(before)
        page.evaluate("draw()")
        assert ticks() == before
        page.locator("#log-x").check()


def test_hostile_words_stay_words(run_folder, open_page):
    samples = [{"step": step, "question": HOSTILE, "text": HOSTILE} for step in (1, 2)]
    (run_folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    recipe = {"dataset": HOSTILE, HOSTILE: HOSTILE}
    (run_folder / "recipe.yaml").write_text(json.dumps(recipe))
    results = json.loads((run_folder / "results.json").read_text())
    results["data"]["dropped_rows"] = {HOSTILE: 5}
    (run_folder / "results.json").write_text(json.dumps(results))
    write_page(read_run(run_folder), run_folder / "report.html")
    page = open_page(run_folder / "report.html")
    assert page.title() == "tiny: finished"
    assert page.locator("img").count() == 0
    assert page.locator(".samples tbody .before").first.text_content() == HOSTILE
    assert points(page, "loss") == 12
    assert overflow(page) <= 0


def test_on_a_phone_the_answers_stand_below_each_other(finished_run, open_page):
    page = open_page(finished_run / "report.html", "phone")
    first, second = (cell.bounding_box() for cell in page.locator(".samples tbody tr").first.locator("td").all())
    assert first["x"] == second["x"] and first["y"] + first["height"] <= second["y"]
    show_title = "cells => cells.map((cell) => getComputedStyle(cell, '::before').content)"
    titles = page.locator(".samples td").evaluate_all(show_title)
    assert titles[:2] == ['"What follows 3?"', '"What follows 7?"']


def test_the_keyboard_reaches_every_panel_and_every_wide_table(finished_run, open_page):
    page = open_page(finished_run / "report.html")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"SUMMARY.", "DIV.scrolls", "DIV.scrolls samples", "INPUT."} <= reached
    page.locator("#recipe summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#recipe .settings").is_visible()


def test_wide_tables_scroll_inside_their_boxes(finished_run, open_page):
    page = open_page(finished_run / "report.html", "narrowest")
    boxes = page.evaluate("[...document.querySelectorAll('.scrolls')].map(box => [box.scrollWidth, box.clientWidth])")
    assert any(content > box for content, box in boxes)
    assert overflow(page) <= 0


def test_the_page_of_a_run_that_trains_is_loaded_again_by_itself(live_folder, open_page, tmp_path):
    file = live_folder / "report.html"
    page = open_page(file)
    assert page.locator(".condition").text_content() == "running"
    page.screenshot(path=tmp_path / "live.png")
    record = json.loads((live_folder / "report.json").read_text())
    record["step"] = 9
    record["log"].append({"step": 9, "loss": 5.0, "tokens_seen": 9 * 128})
    (live_folder / "report.json").write_text(json.dumps(record))
    write_page(read_run(live_folder, is_held=True), file)
    with page.expect_navigation():
        page.clock.fast_forward(page_module.SECONDS_BETWEEN_RELOADS * 1000 + 500)
    assert points(page, "loss") == 9
    assert page.locator(".progress dd").first.text_content() == "9 of 12"


def test_the_page_of_a_run_that_has_ended_stays(finished_run, open_page):
    page = open_page(finished_run / "report.html")
    page.evaluate("window.stayed = true")
    page.clock.fast_forward(10 * page_module.SECONDS_BETWEEN_RELOADS * 1000)
    assert page.evaluate("window.stayed")
