"""The site's pages but for their looks, and a small book with everything that a chapter may have, in a browser."""

import json
from io import BytesIO
from pathlib import Path
from urllib.parse import urljoin

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, Page, expect

from tests.site.checker import file_problems, parse, problems
from tests.site.conftest import PAGES, ROOT
from tools.browser import VIEWS, View

SAMPLE_PAGES = ["chapters/index.html", "chapters/notebook.html", "chapters/bibliography.html"]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("path", SAMPLE_PAGES)
def test_sample_page(chromium: Browser, sample_address: str, path: str, view: View) -> None:
    assert problems(chromium, f"{sample_address}/{path}", view) == []


def markdown(source: Path) -> str:
    """Return the prose of a source file."""
    text = source.read_text("utf-8")
    if source.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("path", [path for path in PAGES if path.startswith("chapters/")])
def test_maths_is_where_the_source_has_it(site: Path, path: str) -> None:
    [source] = [file for file in (ROOT / "chapters").glob("*.*") if file.stem == Path(path).stem]
    shown = parse(site / path).select("article math")
    assert ("$" in markdown(source)) <= bool(shown)


def test_descriptions(site: Path) -> None:
    found = {}
    for path in [path for path in PAGES if path.startswith("chapters/")]:
        html = parse(site / path)
        [found[path]] = [tag["content"] for tag in html.select("meta[name=description]")]
    assert len(set(found.values())) == len(found)
    wrong = {path: text for path, text in found.items() if not 40 <= len(text) <= 200 or set("$\\{}") & set(text)}
    assert wrong == {}


def test_links_anchors_and_pictures(site: Path) -> None:
    assert file_problems(site) == []


def test_links_anchors_and_pictures_of_the_sample(sample: Path) -> None:
    assert file_problems(sample) == []


def test_root_leads_to_the_first_page(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_url("**/chapters/index.html")


@pytest.fixture
def page(chromium: Browser):
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def test_colour_theme_is_chosen_and_remembered(page: Page, sample_address: str) -> None:
    page.goto(f"{sample_address}/chapters/index.html")
    html = page.locator("html")
    expect(html).to_have_attribute("data-theme", "light")
    page.locator(".theme-switch-button").first.click()
    expect(html).to_have_attribute("data-theme", "dark")
    page.goto(f"{sample_address}/chapters/notebook.html")
    expect(html).to_have_attribute("data-theme", "dark")


def test_in_the_dark_a_figure_is_dark_and_a_photograph_as_it_was(page: Page, address: str) -> None:
    page.goto(f"{address}/chapters/02_deep_signals.html")
    frame = page.locator(".bn-figure").filter(visible=True).last

    def brightness() -> float:
        return ImageStat.Stat(Image.open(BytesIO(frame.screenshot())).convert("L")).mean[0]

    light = brightness()
    page.emulate_media(color_scheme="dark")
    page.reload()
    dark = brightness()
    frame.locator("img").evaluate("image => image.classList.add('bn-photo')")
    assert light > 200
    assert dark < 80
    assert brightness() > 0.7 * light


def test_solution_is_folded_and_opens(page: Page, sample_address: str) -> None:
    page.goto(f"{sample_address}/chapters/notebook.html")
    answer = page.get_by_text("The mean moves along")
    expect(answer).to_be_hidden()
    page.locator(".admonition.solution .toggle-button").click()
    expect(answer).to_be_visible()


def test_notebooks_can_be_downloaded_and_code_copied(page: Page, sample: Path, sample_address: str) -> None:
    page.goto(f"{sample_address}/chapters/notebook.html")
    expect(page.locator("button.copybtn")).not_to_have_count(0)
    page.get_by_label("Download this page").click()
    links = page.locator(".dropdown-download-buttons a[href$='.ipynb']")
    expect(links).to_have_count(2)
    for link, name in zip(links.all(), ("notebook.ipynb", "notebook-student.ipynb"), strict=True):
        expect(link).to_be_visible()
        answer = page.request.get(urljoin(page.url, link.get_attribute("href")))
        assert answer.json() == json.loads((sample / "notebooks" / name).read_text("utf-8"))


def test_citations_are_copied_and_not_printed(page: Page, sample_address: str) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{sample_address}/chapters/notebook.html")
    page.get_by_text("How to cite this page or the book").click()
    citations = page.locator(".bn-cite pre").all_text_contents()
    starts = [
        "The authors of Batch",
        "@incollection{batch-normalization-measured-notebook,",
        "The authors of Batch",
        "@misc",
    ]
    assert [text[: len(start)] for text, start in zip(citations, starts, strict=True)] == starts
    assert "http" not in "".join(citations)
    for place, text in enumerate(citations):
        page.locator(".bn-cite .copybtn").nth(place).click()
        assert page.evaluate("navigator.clipboard.readText()") == text
    page.emulate_media(media="print")
    expect(page.locator(".bn-cite")).to_be_hidden()


def test_contents_open_on_a_phone(page: Page, sample_address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(f"{sample_address}/chapters/index.html")
    link = page.locator(".bd-docs-nav a", has_text="A notebook")
    expect(link).to_be_hidden()
    page.locator(".bd-header-article .primary-toggle").click()
    expect(link).to_be_visible()


def test_wide_formula_scrolls_and_the_keyboard_reaches_it(page: Page, sample_address: str) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(f"{sample_address}/chapters/index.html")
    wide = page.locator("#equation-eq-wide .math-scroll")
    expect(wide).to_have_attribute("tabindex", "0")
    assert wide.evaluate("element => element.scrollWidth > element.clientWidth")
    expect(page.locator("#equation-eq-first .math-scroll")).not_to_have_attribute("tabindex", "0")


def test_equation_numbers_and_links(page: Page, sample_address: str) -> None:
    page.goto(f"{sample_address}/chapters/index.html")
    number = page.locator("#equation-eq-first .eqno")
    expect(number).to_contain_text("(1)")
    expect(number.locator("a.headerlink")).to_have_attribute("href", "#equation-eq-first")
    expect(page.locator("p a[href='#equation-eq-first']")).to_have_text("(1)")
