"""Exercises run in the reader's browser: right, wrong and endless code, drafts, links, keys, and offline."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.site.conftest import ROOT, WIDE
from tests.site.editor import STARTED, Editor, solution
from tools import browser

PAGE = "chapters/07_backpropagation.html"
LABEL = "ex-07-backward"
WRONG = """def my_backward(dy, x, gamma, eps):
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + eps)
    dxhat = dy * gamma
    dx = (dxhat - dxhat.mean(0)) / np.sqrt(x.var(0) + eps)
    return dx, (dy * xhat).sum(0), dy.sum(0)


check("07-backward", my_backward)"""


@pytest.fixture(scope="module", autouse=True)
def editors(site: Path) -> None:
    """The site has editors: without NumPy's build for Pyodide it is built without."""
    assert (site / "_static/python").is_dir(), "there are no editors: run 'python -m tools.numpy_wheel' to see why"


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport=WIDE)  # type: ignore[arg-type]
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context
    context.close()


@pytest.fixture(scope="module")
def asked(context: BrowserContext) -> list[str]:
    """All addresses that were asked for."""
    addresses: list[str] = []
    context.on("request", lambda request: addresses.append(request.url))
    return addresses


@pytest.fixture(scope="module")
def page(context: BrowserContext, address: str, asked: list[str]) -> Page:
    """A page on which Python runs already in most tests: to start it takes seconds."""
    page = context.new_page()
    page.goto(f"{address}/{PAGE}")
    return page


@pytest.fixture
def editor(page: Page) -> Editor:
    """Its first editor, as it was at first, with nothing tried or solved."""
    page.evaluate("localStorage.clear()")
    editor = Editor(page, LABEL)
    editor.button("Reset").click()
    return editor


def test_nothing_is_fetched_before_a_press_and_then_from_this_site_alone(
    page: Page, editor: Editor, asked: list[str], address: str
):
    def ours() -> list[str]:
        return sorted(re.sub(r"-[\w.-]+", "", url.rsplit("/", 1)[1]) for url in asked if "/_static/python/" in url)

    assert ours() == ["editor", "page"]
    assert editor.run() == "The function returns nothing; end it with: return dx, dgamma, dbeta."
    assert ours() == ["bnlib", "editor", "numpy", "page", "pyodide.asm", "pyodide.asm", "python_stdlib", "worker"]
    assert {url.removeprefix("blob:").startswith(address) for url in asked} == {True}


def test_a_mistake_is_named_then_where_to_look_then_how_to_mend_it(page: Page, editor: Editor):
    assert editor.run(WRONG) == "dgamma and dbeta are right, dx is not."
    expect(editor.more.locator("li")).to_have_text(re.compile("dx lacks the path through the variance"))
    hint = editor.more.locator("div[role=status] p")
    expect(hint).to_have_count(0)
    editor.button("Hint").click()
    expect(hint).to_have_text([re.compile(r"With dy \(7, 5\), .*, dx\[0, 0\] is .*, should be ")])
    editor.button("How to mend it").click()
    expect(hint).to_have_count(2)
    expect(hint.last).to_be_focused()
    expect(editor.button("How to mend it")).to_have_count(0)
    assert "bn-is-solved" not in (editor.root.get_attribute("class") or "")


def test_what_is_right_is_marked_and_opens_the_solution(page: Page, editor: Editor):
    hidden = page.locator(".solution.toggle-hidden")
    before = hidden.count()
    assert editor.run(solution(ROOT, LABEL)) == "Right: dx, dgamma and dbeta agree with the reference."
    expect(editor.root).to_have_class(re.compile("bn-is-solved"))
    expect(page.locator(".bd-links .current > a .bn-solved-count")).to_have_text(re.compile("1 exercise solved"))
    expect(hidden).to_have_count(before - 1)
    page.locator(".toggle-button:visible").first.click()
    expect(hidden).to_have_count(before)


def test_three_tries_open_the_solution_and_other_runs_do_not_count(page: Page, editor: Editor):
    opened = editor.more.get_by_text("The solution is open below.")
    for tries in range(1, 6):
        editor.run("print(1)")
        expect(opened).to_have_count(0)
        editor.run(WRONG)
        expect(opened).to_have_count(int(tries == 3))
    page.locator(".toggle-button:visible").first.click()


def test_another_exercises_check_solves_nothing(editor: Editor):
    code = "def f(counts, means, vars):\n    mean = counts @ means / counts.sum()\n"
    code += '    return mean, counts @ (vars + (means - mean) ** 2) / counts.sum()\ncheck("10-pool", f)'
    assert editor.run(code).startswith("Right: ")
    expect(editor.root).not_to_have_class(re.compile("bn-is-solved"))


@pytest.mark.parametrize(
    ("code", "said", "shown"),
    [
        ("def f(:\n    pass", "SyntaxError (line 1): invalid syntax", "def f(:"),
        ("x = 1\nx / 0", "ZeroDivisionError (line 2): division by zero", "x / 0"),
        (WRONG.replace("dy * gamma", "dy @ x"), "ValueError (line 3): ", "my_backward\n    dxhat = dy @"),
        ("import torch", "ModuleNotFoundError (line 1): No module named 'torch'", "import torch"),
        ("print(1 + 1)\nnp.float64(0.5) * 3", "It has run.", "2\nnp.float64(1.5)"),
        ("y = 2", "It has run, and printed nothing.", ""),
    ],
)
def test_errors_and_outputs_are_shown_by_the_readers_own_lines(editor: Editor, code: str, said: str, shown: str):
    assert editor.run(code).startswith(said)
    assert shown in editor.more.inner_text()
    assert "bnlib" not in editor.more.inner_text()


def test_by_keyboard_alone(page: Page):
    editor = Editor(page, "ex-07-channels")
    editor.button("Run").focus()
    page.keyboard.press("Tab")
    expect(editor.button("Edit")).to_be_focused()
    page.keyboard.press("Enter")
    expect(editor.content).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("if True:\nprint(6 * 7)")
    assert "    print" in editor.text()  # indented by the editor
    page.keyboard.press("Control+Enter")
    expect(editor.said).to_have_text("It has run.", timeout=STARTED)
    editor.finished()
    assert editor.more.inner_text() == "42"
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(editor.content).not_to_be_focused()
    expect(editor.button("Run")).to_be_focused()
    editor.button("Reset").click()


def test_names_stay_and_one_python_serves_all_editors_of_a_page(page: Page, editor: Editor):
    other = Editor(page, "ex-07-channels")
    editor.run("kept = 17")
    assert other.run("print(kept)") == "It has run."
    assert other.more.inner_text() == "17"
    assert len(page.workers) == 1
    other.button("Reset").click()


def test_an_endless_loop_is_stopped_and_python_starts_again_without_the_network(page: Page, editor: Editor):
    editor.write("while True:\n    pass")
    page.keyboard.press("Control+Enter")
    expect(editor.said).to_have_text("Running.")
    editor.button("Stop").click()
    expect(editor.said).to_have_text("Stopped.")
    expect(editor.button("Run")).to_be_focused()
    page.context.set_offline(True)
    try:
        assert editor.run(WRONG) == "dgamma and dbeta are right, dx is not."
    finally:
        page.context.set_offline(False)


def test_ten_seconds_without_an_answer_end_it(page: Page, editor: Editor):
    page.clock.install()
    try:
        editor.run("y = 1")
        editor.write("while True:\n    pass")
        editor.button("Run").click()
        expect(editor.said).to_have_text("Running.")
        page.clock.run_for(9_000)
        expect(editor.said).to_have_text("Running.")
        page.clock.run_for(2_000)
        expect(editor.said).to_have_text(re.compile("There was no answer within 10 seconds"))
    finally:
        page.clock.resume()


def test_stopped_while_it_starts_it_does_not_run(page: Page, editor: Editor):
    page.reload()
    held: list[Route] = []
    page.route("**/_static/python/worker-*.js", lambda route: held.append(route))
    editor.write("print('ran')")
    with page.expect_request("**/_static/python/worker-*.js"):
        editor.button("Run").click()
    editor.button("Stop").click()
    expect(editor.said).to_have_text("Stopped.")
    editor.finished()
    expect(editor.more).to_be_empty()
    with page.expect_request_finished():
        held[0].continue_()
    page.wait_for_timeout(200)  # for a worker that should not come
    assert page.workers == []
    page.unroute_all()
    assert editor.run() == "It has run."


def test_cells_of_the_chapter_run_change_and_are_there_below(page: Page, editor: Editor):
    first, hint = Editor(page, "cell-1"), page.locator(".bn-code-cell").last.get_attribute("data-id")
    assert first.run() == "It has run."
    printed = first.root.locator("xpath=following::pre[1]").text_content() or ""
    assert first.more.inner_text().split() == printed.split()
    # A cell that uses what one above it defines, beside that one's check.
    assert Editor(page, hint or "").run() == "dgamma and dbeta are right, dx is not."
    standing = first.root.locator("xpath=preceding-sibling::div[1]")
    before = standing.inner_text()
    assert first.run("import numpy as np\nchanged = 5") == "It has run, and printed nothing."
    expect(standing).to_be_hidden()
    assert editor.run("print(changed)") == "It has run."
    assert editor.more.inner_text() == "5"
    first.button("Reset").click()
    assert first.text().split() == before.split()


def test_python_that_breaks_down_says_so_and_starts_again(page: Page, editor: Editor):
    said = editor.run('import js\njs.postMessage(js.JSON.parse(\'{"failed": "it broke down"}\'))\n1')
    assert said.startswith("Python could not be started: it broke down.")
    assert editor.run("print(1)") == "It has run."
    assert editor.run("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E").startswith(
        "E (line 4): no message"
    )
    assert editor.run("import js\njs.fetch('https://example.invalid')").startswith("TypeError (line 2)")


def test_a_draft_outlives_a_reload_and_reset_brings_the_stub(page: Page, editor: Editor):
    stub = editor.text()
    assert stub.startswith("def my_backward(dy, x, gamma, eps):")
    editor.write("draft = 1")
    page.reload()
    assert editor.text() == "draft = 1"
    editor.button("Reset").click()
    assert editor.text().strip() == stub.strip()
    page.reload()
    assert editor.text().strip() == stub.strip()


def test_a_link_carries_the_code(page: Page, editor: Editor, address: str):
    code = "# größer, ≤ und \N{GREEK SMALL LETTER EPSILON}\nx = 'a b&c'"
    editor.write(code)
    editor.button("Copy link").click()
    expect(editor.said).to_have_text(re.compile("in the clipboard"))
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{address}/{PAGE}#{LABEL}~")
    # On the page that is open, too; what one had written there waits behind a button.
    editor.write("mine = 1")
    page.evaluate("scrollTo(0, 0)")
    page.goto(link)
    expect(editor.said).to_have_text("This code came with the link.")
    assert editor.text() == code
    expect(editor.root).to_be_in_viewport()
    editor.write(f"{code}  # mended")
    page.reload()
    assert editor.text() == f"{code}  # mended"
    editor.button("Your draft").click()
    assert editor.text() == "mine = 1"
    expect(editor.button("Your draft")).to_be_hidden()
    page.goto(link[:-3])
    expect(editor.said).to_have_text(re.compile("This link was cut"))
    assert editor.text() == "mine = 1"


def test_no_python_is_told(page: Page, editor: Editor):
    page.reload()
    page.route("**/_static/python/*.gz", lambda route: route.abort())
    try:
        assert editor.run().startswith("Python could not be started: ")
        page.evaluate("delete globalThis.DecompressionStream")
        assert editor.run().startswith("Python on the page needs a browser of 2023 or later")
    finally:
        page.unroute_all()
        page.reload()


def test_axe_finds_nothing_in_any_state_on_a_phone(page: Page, editor: Editor):
    def violations() -> list[str]:
        found = []
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            run = Axe().run(page, context={"include": [[f'.bn-code[data-id="{LABEL}"]']]})
            found += [f"{scheme}, {one['id']}: {one['nodes'][0]['html']}" for one in run.response["violations"]]
        return found

    page.set_viewport_size({"width": 360, "height": 800})
    try:
        assert violations() == []
        editor.run(WRONG)
        editor.button("Hint").click()
        assert violations() == []
        editor.run("print(1)\n1 / 0")
        assert violations() == []
        editor.run(solution(ROOT, LABEL))
        assert violations() == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_viewport_size(WIDE)  # type: ignore[arg-type]
        page.emulate_media(color_scheme="null")


def test_below_a_path(site: Path, chromium: Browser):
    with browser.serve(site, below="/book") as address:
        page = chromium.new_page()
        page.goto(f"{address}/chapters/01_covariate_shift.html")
        editor = Editor(page, "ex-01-weights")
        assert editor.run(solution(ROOT, "ex-01-weights")).startswith("Right: ")
        page.goto(f"{address}/chapters/exercises.html")
        expect(page.locator('[data-solves="ex-01-weights"]')).to_have_text("✓ solved")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save what I have solved").click()
        assert '"ex-01-weights": "20' in download.value.path().read_text("utf-8")
        page.close()


def test_without_scripts_and_on_paper_there_is_no_editor(chromium: Browser, address: str):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{PAGE}")
    expect(page.locator(".bn-code").first).to_be_hidden()
    context.close()
    page = chromium.new_page()
    page.goto(f"{address}/{PAGE}")
    expect(page.locator(".bn-code").first).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(".bn-code").first).to_be_hidden()
    page.close()
