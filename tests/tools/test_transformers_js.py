"""transformers.js: the page of a Space in Chromium runs the export's graph in 8 bits, all from this machine."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from hub_card.export.formats import put_template_in_config, write_onnx
from hub_card.space.model_choice import Settings
from hub_card.space.staging import stage_space
from hub_card.verification import check_space
from hub_card.verification.without_project import VerificationError
from modeling_gpt2scratch import GPT2ScratchForCausalLM, save_as_hf_gpt2
from tests.hub_card.space.conftest import CONTEXT, model_folder  # noqa: F401
from train.evaluation.exam.answers import questions_to_prompts


SETTINGS = Settings(
    title="tiny",
    model="you/tiny",
    revision="0" * 40,
    context=CONTEXT,
    temperature=0.0,
    examples=["Who wrote Emma?", "Count."],
)
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.fixture(scope="module")
def export(model_folder, tokenizer, tmp_path_factory) -> Path:  # noqa: F811
    """What is on the branch gpt2: a model that knows two texts by heart."""
    folder = tmp_path_factory.mktemp("gpt2") / "export"
    save_as_hf_gpt2(GPT2ScratchForCausalLM.from_pretrained(model_folder), tokenizer, folder)
    put_template_in_config(folder)
    write_onnx(folder)
    return folder


@pytest.fixture(scope="module")
def server(export, tmp_path_factory) -> Iterator[check_space.Server]:
    staged = stage_space(SETTINGS, tmp_path_factory.mktemp("staged"), "you/tiny-chat")["main"]
    try:
        site = check_space.build_site(staged, SETTINGS, export, tmp_path_factory.mktemp("site"))
    except VerificationError as error:
        pytest.skip(f"npm's registry cannot be reached: {error}")
    with check_space.Server(site) as server:
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    expect.set_options(timeout=60_000)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=check_space.find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium, server, size: str = "desktop", prepare: str = "", **options) -> Page:
    width, height = SIZES[size]
    page = chromium.new_page(viewport={"width": width, "height": height}, **options)
    page.set_default_timeout(60_000)
    page.add_init_script(prepare)
    page.outside, page.errors = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.outside.append(request.url))
    page.goto(server.url)
    return page


@pytest.fixture
def page(request, chromium, server) -> Iterator[Page]:
    page = open_page(chromium, server, getattr(request, "param", "desktop"))
    expect(page.get_by_role("status")).to_have_text("Ready.")
    yield page
    assert page.errors == []
    assert [url for url in page.outside if not url.startswith((server.url, "data:", f"blob:{server.url}"))] == []
    page.close()


def ask(page: Page, question: str) -> None:
    box = page.get_by_role("textbox", name="Question")
    box.fill(question)
    box.press("Enter")


@pytest.mark.usefixtures("server")  # which skips where npm's registry cannot be reached
def test_the_check_of_the_command(export, tmp_path, monkeypatch):
    """What `python -m hub_card.space MODEL --publish SPACE` says before the upload, and when a page does not work."""
    monkeypatch.setattr(check_space, "snapshot_download", lambda *_, **__: str(export))
    staged = stage_space(SETTINGS, tmp_path, "you/tiny-chat")["main"]
    told = check_space.verify_space(staged, SETTINGS)
    assert re.fullmatch(r"(\d+) of \1 tokens of 2 answers in Chromium are those of torch", told)
    with pytest.raises(VerificationError, match="does not work in Chromium"):
        check_space.verify_space(staged, replace(SETTINGS, revision="1" * 40))


@pytest.mark.parametrize("page", SIZES, indirect=True)
def test_an_example_shows_reasoning_apart_from_the_answer(page):
    page.get_by_role("button", name="Who wrote Emma?").click()
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    expect(page.locator(".answer")).to_have_text("Jane Austen")
    expect(page.locator(".reasoning div")).to_have_text("Emma is a novel by Austen.")
    page.get_by_text("Reasoning", exact=True).click()  # it folds
    expect(page.get_by_text("Emma is a novel by Austen.")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_stop_ends_a_text_and_the_model_is_free_again(page):
    page.get_by_text("Answer settings").click()
    page.get_by_label("Longest reply").fill("4000")
    ask(page, "Count.")
    expect(page.locator(".answer")).to_contain_text("one and one")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_have_text("Stopped.")
    assert page.locator(".answer").inner_text().count("one") < 1500
    ask(page, "Who wrote Emma?")
    expect(page.locator(".answer").last).to_have_text("Jane Austen")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("log")).to_be_empty()


def test_settings_reach_the_model(page):
    page.get_by_text("Answer settings").click()
    page.get_by_label("Longest reply").fill("5")
    ask(page, "Count.")
    expect(page.get_by_role("status")).to_contain_text("The reply breaks off")
    expect(page.locator(".answer")).to_have_text("one and one")
    page.get_by_label("Longest reply").fill("40")
    for setting, value in {"Temperature": "2", "Top k": "0"}.items():
        page.get_by_label(setting).fill(value)
    replies = []
    for seed in ("1", "1", "2"):
        page.get_by_label("Seed").fill(seed)
        before = page.locator(".question").count()
        ask(page, "Who wrote Emma?")
        expect(page.locator(".question")).to_have_count(before + 1)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        replies.append(page.get_by_role("log").inner_text().rpartition("Who wrote Emma?")[2])
    assert replies[0] == replies[1] != replies[2]
    page.get_by_label("Temperature").fill("9")
    ask(page, "Count.")
    assert page.get_by_label("Temperature").evaluate("field => !field.validity.valid")


def test_a_question_that_does_not_fit_stays_and_one_token_may_be_left(page):
    ask(page, "why " * 8200)
    expect(page.get_by_role("status")).to_contain_text("8,204 tokens, and the model reads 8,192 at most")
    expect(page.get_by_role("textbox", name="Question")).to_have_value("why " * 8200)
    page.get_by_text("Answer settings").click()
    page.get_by_label("Longest reply").fill(str(CONTEXT))
    ask(page, "why " * 8187)  # 8,191 tokens
    expect(page.get_by_role("status")).to_contain_text("The reply breaks off")


def test_texts_are_shown_as_written(page):
    text = 'a*b* <img src="http://example.invalid/a.png"> &lt; <script>alert(1)</script>\n\n    four <|endoftext|>'
    page.get_by_text("Answer settings").click()
    page.get_by_label("Longest reply").fill("3")
    ask(page, text)
    expect(page.get_by_role("status")).not_to_have_text("Writing …")
    assert page.locator(".question").inner_text() == text
    assert page.locator(".question *").count() == 0


PROMPTS = """async ([questions, earlier]) => {
    const settings = await (await fetch("settings.json")).json();
    const worker = new Worker("worker.js", {type: "module"});
    const sampling = {temperature: 0, top_k: 0, repetition_penalty: 1, seed: 0, longest: 1};
    const answer = (message, type) => new Promise((resolve) => {
        worker.onmessage = ({data}) => data.type === type && resolve(data);
        worker.postMessage(message);
    });
    await answer({type: "load", settings}, "ready");
    const prompts = [];
    for (const question of questions) {
        const begun = answer({type: "ask", question, earlier, sampling}, "begun");
        prompts.push((await begun).prompt);
        await new Promise((resolve) => worker.onmessage = ({data}) => data.type === "done" && resolve());
    }
    return prompts;
}"""


def test_prompts_have_the_ids_of_training(page, tokenizer):
    """The end-of-text token that somebody writes is left out."""
    end = tokenizer.eos_token
    asked = [
        "Why?",
        "  Why ?\n",
        "What is 2 + 2?\n\nThink.",
        "Wer schrieb „Emma“?",
        "🤖\r\nno",
        f"a{end[:5]}{end}{end[5:]}b",
    ]
    cleaned = ["Why?", "Why ?", "What is 2 + 2?\n\nThink.", "Wer schrieb „Emma“?", "🤖\nno", "ab"]
    rows = [{"query": question, "exercise": "", "constraints": None} for question in cleaned]
    expected = questions_to_prompts(rows, tokenizer)
    assert page.evaluate(PROMPTS, [asked, []]) == expected
    earlier = [{"question": "When?", "reply": "Reasoning:\nHm.\n\nA: 1815"}]
    turn = [*tokenizer("Q: When?\n\nReasoning:\nHm.\n\nA: 1815")["input_ids"], tokenizer.eos_token_id]
    assert page.evaluate(PROMPTS, [["Why?"], earlier]) == [[*turn, *expected[0]]]


def worker_that_sends(message: str) -> str:
    return f"window.Worker = class {{ postMessage() {{ setTimeout(() => this.onmessage({{data: {message}}})) }} }};"


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        ("delete window.WebAssembly;", "This browser has no WebAssembly with SIMD"),
        (
            worker_that_sends("{type: 'error', text: 'std::bad_alloc'}"),
            "too little free memory",
        ),
        (worker_that_sends("{type: 'error', text: 'Failed to fetch'}"), "check the connection"),
        (worker_that_sends("{type: 'progress', loaded: 1.5e6, total: 3e6}"), "Loading the model."),
    ],
)
def test_a_word_where_the_model_cannot_be_loaded(chromium, server, prepare, told):
    page = open_page(chromium, server, prepare=prepare, color_scheme="dark")
    expect(page.get_by_role("status")).to_contain_text(told)
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    if "progress" in prepare:
        expect(page.locator("#loaded")).to_have_text("1.5 of 3.0 MB")
    page.close()
