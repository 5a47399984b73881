"""With an address and a repository in the environment the site has what needs them; without, it names none."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from sphinx.errors import ConfigError

from _ext.address import read
from tests.site.checker import file_problems, parse, problems
from tests.site.conftest import build_sample
from tools import browser
from tools.browser import VIEWS, View

SITE_URL = "https://example.org/a/book/"
PAGES = ["chapters/bibliography.html", "chapters/index.html", "chapters/notebook.html"]
REPOSITORY = "an-owner/a.fork_of-it"  # no name of the original may stand anywhere


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small book, built for an address."""
    return build_sample(tmp_path_factory.mktemp("published"), SITE_URL=SITE_URL, REPOSITORY=REPOSITORY)


@pytest.fixture(scope="module")
def published_address(published: Path) -> Iterator[str]:
    """Where it is served, below the path that it was built for."""
    with browser.serve(published, "/a/book") as served:
        yield served


@pytest.mark.parametrize("path", PAGES)
def test_canonical_link_and_open_graph(published: Path, path: str) -> None:
    html = parse(published / path)
    [canonical] = html.select("link[rel=canonical]")
    assert canonical["href"] == SITE_URL + path
    [description] = html.select("meta[name=description]")
    [heading] = html.select("article h1")
    tags = {str(tag["property"]): tag["content"] for tag in html.select("head > meta[property^='og:']")}
    assert tags == {
        "og:title": heading.get_text().removesuffix("#"),  # the link to the heading
        "og:description": description["content"],
        "og:type": "website" if path == "chapters/index.html" else "article",
        "og:url": SITE_URL + path,
        "og:site_name": "Batch Normalization, Measured",
    }


@pytest.mark.parametrize("path", PAGES)
def test_citations_have_the_address(published: Path, path: str) -> None:
    *page, book = [pre.get_text() for pre in parse(published / path).select(".bn-cite pre")][1::2]
    assert f"url = {{{SITE_URL}}}" in book
    assert [f"url = {{{SITE_URL}{path}}}" in entry for entry in page] == [True] * (path != "chapters/index.html")


def test_sitemap_lists_the_pages(published: Path) -> None:
    root = ElementTree.parse(published / "sitemap.xml").getroot()
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    assert root.tag == f"{space}urlset"
    assert [location.text for location in root.findall(f"{space}url/{space}loc")] == [SITE_URL + path for path in PAGES]


def menu(published: Path, path: str) -> dict[str, str]:
    """Where each of the links above a page leads, by its words."""
    links = parse(published / path).select(".article-header-buttons a")
    return {link.get_text(" ", strip=True): str(link["href"]) for link in links}


def test_a_chapters_links(published: Path) -> None:
    links = menu(published, "chapters/notebook.html")
    assert links.pop("Report an error").startswith(f"https://github.com/{REPOSITORY}/issues/new?")
    assert links == {
        "Binder": f"https://mybinder.org/v2/gh/{REPOSITORY}/notebooks?urlpath=lab/tree/chapters/notebook.ipynb",
        "Colab": f"https://colab.research.google.com/github/{REPOSITORY}/blob/notebooks/chapters/notebook.ipynb",
        "Source": f"https://github.com/{REPOSITORY}/blob/main/chapters/notebook.ipynb",
        "Edit": f"https://github.dev/{REPOSITORY}/blob/main/chapters/notebook.ipynb",
        "Notebook": "../notebooks/notebook.ipynb",
        "Student's notebook": "../notebooks/notebook-student.ipynb",
    }


def test_another_pages_links(published: Path) -> None:
    links = menu(published, "chapters/bibliography.html")
    assert links.pop("Report an error").startswith(f"https://github.com/{REPOSITORY}/issues/new?")
    assert links == {
        "Source": f"https://github.com/{REPOSITORY}/blob/main/chapters/bibliography.md?plain=1",
        "Edit": f"https://github.com/{REPOSITORY}/edit/main/chapters/bibliography.md",
        ".md": "../_sources/chapters/bibliography.md",
    }


def test_the_notebooks_offered_know_their_repository_and_lead_to_the_site(published: Path) -> None:
    for ending in ("", "-student"):
        text = (published / f"notebooks/notebook{ending}.ipynb").read_text("utf-8")
        assert f'repository = \\"{REPOSITORY}@notebooks\\"' in text
        assert f"[A page of formulas]({SITE_URL}chapters/index.html)" in text


def fields(link: str) -> tuple[str, str]:
    """The title and the text of the issue that a link opens."""
    query = parse_qs(urlsplit(link).query)
    return query["title"][0], query["body"][0]


def test_a_report_names_the_page(published: Path) -> None:
    title, body = fields(menu(published, "chapters/notebook.html")["Report an error"])
    assert title == "Error in A notebook"
    assert body.startswith(f"Page: A notebook, {SITE_URL}chapters/notebook.html\nSection: \n")


@pytest.mark.parametrize(
    ("path", "at", "title", "section"),
    [
        ("notebook", "h1", "A notebook", "A notebook (#a-notebook)"),
        ("index", "#in-a-line h2", "A page of formulas: In a line", "In a line (#in-a-line)"),
    ],
)
def test_a_report_names_the_section(
    chromium: Browser, published_address: str, path: str, at: str, title: str, section: str
) -> None:
    page = chromium.new_page(viewport={"width": 1280, "height": 700})
    page.goto(f"{published_address}/chapters/{path}.html")
    page.locator(at).evaluate("element => element.scrollIntoView({ behavior: 'instant' })")
    page.get_by_role("button", name="Source and errors").press("Enter")
    report = page.locator("a.btn-report-button")  # which the menu hides once it is closed
    report.evaluate("link => link.addEventListener('click', event => event.preventDefault())")  # stay here
    for _ in range(2):  # the second press says the same
        report.evaluate("link => link.focus()")
        page.keyboard.press("Enter")
    found, body = fields(str(report.get_attribute("href")))
    assert (found, body.split("\n")[1]) == (f"Error in {title}", f"Section: {section}")
    page.close()


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_open_menus_are_on_the_screen_and_accessible(chromium: Browser, published_address: str, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 700})
    page.goto(f"{published_address}/chapters/notebook.html")
    for button in ("Launch interactive content", "Source and errors", "Download this page"):
        page.get_by_role("button", name=button).click()
        box = page.locator(".bd-header-article .dropdown-menu.show").bounding_box()
        assert box
        assert 0 <= box["x"] < box["x"] + box["width"] <= width, button
        if width == 360:
            report = Axe().run(page, context={"include": [[".dropdown-menu.show"]]})
            assert [violation["id"] for violation in report.response["violations"]] == [], button
        page.keyboard.press("Escape")
    page.close()


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("path", ["chapters/notebook.html", "search.html"])
def test_page_below_a_path(chromium: Browser, published_address: str, path: str, view: View) -> None:
    assert problems(chromium, f"{published_address}/{path}", view) == []


@pytest.mark.parametrize("path", ["wrong.html", "chapters/deep/down/wrong.html"])
def test_wrong_address(chromium: Browser, published_address: str, path: str) -> None:
    address = f"{published_address}/{path}"
    # The page itself comes with status 404; everything that it asks for is there.
    assert {problem for problem in problems(chromium, address) if "console error" not in problem} == {
        f"status 404: {address}"
    }
    page = chromium.new_page()
    page.goto(address)
    page.get_by_role("link", name="Start at the first page").click()
    page.wait_for_url(f"{published_address}/chapters/index.html")
    page.close()


def test_files_of_a_published_site(published: Path) -> None:
    assert file_problems(published, urlsplit(SITE_URL).path) == []


def test_without_them_there_is_no_address(sample: Path) -> None:
    assert not (sample / "sitemap.xml").exists()
    for page in sample.rglob("*.html"):
        html = parse(page)
        assert html.select("link[rel=canonical], meta[property^='og:'], .article-header-buttons a[href^=http]") == []
        for name in ("mybinder", "colab.research", "github.com/", "github.dev"):
            assert name not in page.read_text("utf-8")


@pytest.mark.parametrize("site", ["", SITE_URL, "http://127.0.0.1:8000/"])
@pytest.mark.parametrize("repository", ["", "owner/name", "an-owner/a.name_"])
def test_valid_settings(site: str, repository: str) -> None:
    assert read({"SITE_URL": site, "REPOSITORY": repository}) == (site, repository)


@pytest.mark.parametrize(
    "settings",
    [
        *({"SITE_URL": bad} for bad in ("example.org/", "https://example.org", "https://example.org/a", "https:///")),
        *({"SITE_URL": bad} for bad in ("ftp://example.org/", "https://example.org/?a/", "https://example.org/a b/")),
        *(
            {"REPOSITORY": bad}
            for bad in ("name", "owner/", "/name", "owner/name/", "https://example.org/name", "a/b c")
        ),
    ],
)
def test_bad_setting_is_a_clear_error(settings: dict[str, str]) -> None:
    [(name, value)] = settings.items()
    with pytest.raises(ConfigError, match=rf"{name} must .*{value!r}".replace("?", r"\?")):
        read(settings)
