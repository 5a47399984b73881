"""The search finds the right section for what people type, behaves in its box, and fetches nothing before that."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.site.checker import THIN, parse
from tools import browser

LIST = tomllib.loads((Path(__file__).parent / "searches.toml").read_text("utf-8"))
PHRASES = {phrase: places for group in LIST.values() for phrase, places in group.items()}
BELOW = "/a/book"  # a site below a path of its server, as on GitHub Pages
FIRST = f"{BELOW}/chapters/06_transform.html"


@pytest.fixture(scope="module")
def page(site: Path, chromium: Browser) -> Iterator[Page]:
    """A chapter, with all that it asked for in ``page.asked`` and what it complained of in ``page.complaints``."""
    with browser.serve(site, BELOW) as address:
        page = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address.removesuffix(BELOW) + FIRST)
        page.wait_for_load_state("networkidle")
        assert not [url for url in asked if "/search/" in url]
        page.evaluate(THIN)  # axe, which looks at the box, counts what is behind it
        page.keyboard.press("Control+k")
        expect(page.locator("dialog .bn-search-status")).to_contain_text("A question, a symptom")
        assert sorted(url.rpartition("/")[2] for url in asked if "/search/" in url) == ["search.js", "sections.js"]
        yield page
        assert not [url for url in asked if not url.startswith(address)]
        assert complaints == []
        page.context.close()


@pytest.fixture
def box(page: Page) -> Locator:
    """The field, empty and open."""
    field = page.locator("dialog input")
    if not field.is_visible():
        page.keyboard.press("Control+k")
    field.fill("")
    return field


def found(page: Page) -> list[str]:
    """Return the addresses of the results, from the site's root on."""
    links = page.locator("dialog .bn-search-results a").evaluate_all("links => links.map(link => link.href)")
    return [link.partition(f"{BELOW}/")[2] for link in links]


# Parsed by the browser, which is quick at it. A place's section is the closest with a heading of its own.
SECTIONS = """async (addresses) => {
    const pages = new Map();
    for (const path of new Set(addresses.map(address => address.split("#")[0]))) {
        const answer = await fetch(`../${path}`);
        pages.set(path, new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
    return addresses.map(address => {
        const [path, anchor] = address.split("#");
        const article = pages.get(path).querySelector("article");
        const place = anchor ? article.querySelector(`[id="${anchor}"]`) : article.querySelector("section");
        const section = place?.closest("section:has(> :is(h1, h2, h3, h4))");
        return section && `${path}#${section.id}`;
    });
}"""


def test_the_right_section_comes_first(page: Page, box: Locator):
    results = {}
    for phrase in PHRASES:
        box.fill(phrase)
        results[phrase] = found(page)[:3]
    expected = {phrase: [_address(place) for place in places] for phrase, places in PHRASES.items()}
    addresses = sorted({address for group in (results, expected) for found in group.values() for address in found})
    section = dict(zip(addresses, page.evaluate(SECTIONS, addresses), strict=True))
    assert [address for address in addresses if not section[address]] == []  # a place that is not there

    right = {phrase: {section[address] for address in places} for phrase, places in expected.items()}
    first = [phrase for phrase, found in results.items() if {section[address] for address in found[:1]} & right[phrase]]
    missed = [
        phrase for phrase, found in results.items() if not {section[address] for address in found} & right[phrase]
    ]
    print(f"first for {len(first)} of {len(PHRASES)}, not among the first three for {len(missed)}")
    assert len(PHRASES) >= 60
    assert len(missed) <= 0.05 * len(PHRASES), "\n".join(f"{phrase}: {results[phrase]}" for phrase in missed)
    assert len(first) >= 0.75 * len(PHRASES)


def _address(place: str) -> str:
    page, _, anchor = place.partition("#")
    return f"chapters/{page}.html#{anchor}"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("renormalisatoin", "chapters/10_batch_and_machines.html#batch-renormalization"),  # mistyped
        ("alpha dropo", "chapters/15_selu.html#dropout-that-keeps-the-moments"),  # not yet whole
        ("batchrenorm", "chapters/10_batch_and_machines.html#batch-renormalization"),  # in one word
        ("layer normalisation transformer", "chapters/16_transformers.html"),  # no transform, no normal
        ("IN", "chapters/13_axes.html#instance-norm-contrast-and-colour"),
        ("centered", "chapters/13_axes.html#rms-norm-centre-or-not"),  # centred, here, and no cent
        ("σ²", "chapters/06_transform.html#a-unit-that-never-varies"),
        ("check_vjp", "chapters/reference.html#bnlib.check.check_vjp"),
    ],
)
def test_typing_errors_and_parts_of_words(page: Page, box: Locator, typed: str, expected: str):
    box.fill(typed)
    assert expected in found(page)[:3]


def test_a_result_names_its_place_and_shows_the_words(page: Page, box: Locator):
    box.fill("fold batch norm")
    result = page.locator("dialog .bn-search-results a", has_text="Folding").first
    expect(result.locator(".bn-search-path")).to_contain_text("9. Test time")
    expect(result.locator(".bn-search-text mark").first).to_be_visible()
    expect(page.locator(".bn-search-status")).to_contain_text("results, the best first")


def test_keyboard(page: Page, box: Locator):
    box.fill("folding")
    page.keyboard.press("ArrowDown")
    links = page.locator("dialog .bn-search-results a")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    page.keyboard.press("/")
    expect(box).to_be_focused()
    expect(box).to_have_value("folding")


def test_a_slash_typed_before_the_focus_has_left_the_closed_box_opens_it_again(page: Page, box: Locator):
    expect(box).to_be_focused()
    page.evaluate("""() => {  // in one task: the focus leaves a hidden field with the next frame
        const dialog = document.querySelector("dialog.bn-search"), field = dialog.querySelector("input");
        dialog.close();
        field.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true, cancelable: true }));
    }""")
    expect(box).to_be_focused()
    box.fill("")
    page.keyboard.press("/")
    expect(box).to_have_value("/")  # in the open box it is text


def test_a_traceback_finds_its_message(page: Page, box: Locator):
    where = "File 'train.py', line 41, in step out = model(batch) File 'batchnorm.py', in forward raise ValueError( "
    message = "ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 256])"
    box.fill(f"Traceback (most recent call last): {where * 9}{message}")
    assert "expected-more-than-1-value" in found(page)[0]


def test_nothing_found_says_so_at_once(page: Page, box: Locator):
    box.fill("z" * 1000)
    status = page.locator(".bn-search-status")
    expect(status).to_contain_text("Nothing found for “zzz")
    assert status.evaluate("status => status.scrollWidth <= status.clientWidth")
    box.fill("zzxqwv")
    expect(page.locator(".bn-search-status")).to_contain_text("Nothing found for “zzxqwv”", timeout=500)
    assert found(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_open_box_is_accessible_and_fits(page: Page, box: Locator, width: int, scheme: str):
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 700})
    box.fill("small batches")
    dialog = page.locator("dialog.bn-search")
    assert Axe().run(page, context="dialog.bn-search").response["violations"] == []
    assert dialog.evaluate("box => box.scrollWidth <= box.clientWidth")
    icon, field = dialog.locator("i").bounding_box(), box.bounding_box()
    assert icon
    assert field
    assert icon["x"] + icon["width"] <= field["x"]
    page.set_viewport_size({"width": 1280, "height": 800})


def test_what_is_typed_while_the_index_comes_is_kept_and_fetching_can_be_tried_again(chromium: Browser, address: str):
    page = chromium.new_page()
    page.goto(f"{address}/chapters/06_transform.html")
    files = "search.js", "sections.js"
    for file in files:  # both from the start: what is fetched once more after the first is there must fail, too
        page.route(f"**/{file}", lambda route: route.abort())
    for missing in files:
        page.keyboard.press("/")
        page.keyboard.type("<b>SyncBN")  # at once
        expect(page.locator(".bn-search-status")).to_contain_text("Enter tries again")
        page.unroute(f"**/{missing}")
        if missing == "search.js":
            page.keyboard.press("Escape")
    held = []
    page.route("**/sections.js", lambda route: held.append(route))
    page.keyboard.press("Enter")
    expect(page.locator(".bn-search-status")).to_contain_text("being fetched")
    page.keyboard.type("<i>")
    for _ in range(3000):  # the request may still be on its way to the route
        if held:
            break
        page.wait_for_timeout(10)
    held[0].continue_()
    expect(page.locator(".bn-search-results a").first).to_be_visible()
    expect(page.locator("dialog input")).to_have_value("<b>SyncBN<i>")
    assert not page.locator("dialog :is(b, i:not([class]))").count()
    page.close()


def test_enter_opens_the_section(page: Page, box: Locator):
    box.fill("Bessel's correction")
    [address, *_] = found(page)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{address}")
    page.go_back()
    page.wait_for_url(f"**{FIRST}")
    page.wait_for_load_state("networkidle")


def test_search_page_searches_for_what_its_address_says(chromium: Browser, address: str):
    page = chromium.new_page()
    page.goto(f"{address}/search.html?q=fold+batch+norm")
    results = page.locator(".bn-search-results a")
    expect(results.first).to_be_visible()
    page.locator(".bn-search-page input").fill("batch renormalization")
    expect(results.first).to_have_attribute("href", "./chapters/10_batch_and_machines.html#batch-renormalization")
    assert page.url.endswith("?q=batch+renormalization")
    results.first.focus()
    page.keyboard.press("/")  # there is no second box
    expect(page.locator("input")).to_be_focused()
    assert Axe().run(page).response["violations"] == []
    page.close()


def test_nothing_is_left_of_the_search_that_it_replaces(site: Path):
    for name in ("searchindex.js", "_static/searchtools.js", "_static/language_data.js", "_static/sphinx_highlight.js"):
        assert not (site / name).exists()
        assert not [page for page in site.rglob("*.html") if Path(name).name in page.read_text("utf-8")]


def test_no_result_gives_a_solution_away(site: Path):
    html = parse(site / "chapters/06_transform.html")
    index = (site / "_static/search/sections.js").read_text("utf-8")
    [exercise, solution] = [html.select_one(f".{kind} p:not([class])") for kind in ("exercise", "solution")]
    assert exercise
    assert solution
    assert exercise.get_text()[:6] in index
    assert " ".join(solution.get_text().split()[:8]) not in index
