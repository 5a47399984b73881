"""Every page on the screen of a phone, 360 pixels wide: what is seen at once, what stays, what can be read."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from _ext.images import LEGIBLE
from bnlib.plots import SMALLEST, STYLE
from tests.site.checker import look_problems, open_tab, visit
from tests.site.conftest import PAGES
from tools.browser import VIEWS

NAME = "Batch Normalization, Measured"

# The figures whose smallest text, so many points of a picture drawn at so many dots per inch, is shown smaller.
TOO_SMALL = """([points, dpi, legible]) => [
    ...document.querySelectorAll("article figure:not(.bn-mounted) img")
].map(image => {
    const scale = image.getBoundingClientRect().width / Number(image.getAttribute("width"));
    return { picture: image.alt, text: points / 72 * dpi * scale };
}).filter(({ text }) => !(text >= legible - 0.01))"""

# What scrolls without showing it, and tables whose first column goes with the rest.
ASTRAY = """async () => {
    const selector = "pre, .math-scroll, .bn-figure, .pst-scrollable-table-container, .output.text_html";
    const all = [...document.querySelectorAll(selector)];
    const wide = all.filter(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth > 1);  // 1 is rounding
    const name = ({ className, textContent }) => `"${className}" ${textContent.trim().slice(0, 40)}`;
    const cue = element => [element.dataset.more, getComputedStyle(element).maskImage !== "none"].join();
    const silent = wide.filter(element => cue(element) !== "right,true");
    for (const element of wide) element.scrollLeft = element.scrollWidth;
    for (const _ of [1, 2]) await new Promise(requestAnimationFrame);
    silent.push(...wide.filter(element => cue(element) !== "left,true"));
    const gone = wide.filter(element => {
        const cell = element.querySelector("tbody tr > :first-child");
        return cell && cell.getBoundingClientRect().left < element.getBoundingClientRect().left - 0.5;
    });
    return [...silent.map(element => `no cue: ${name(element)}`), ...gone.map(element => `gone: ${name(element)}`)];
}"""


@pytest.fixture(scope="module")
def phone(chromium: Browser) -> Iterator[Page]:
    """A screen of a phone's width that is touched."""
    viewport = {"width": VIEWS["phone"].width, "height": 700}
    with open_tab(chromium, viewport=viewport, has_touch=True, is_mobile=True) as tab:
        yield tab


@pytest.mark.parametrize("path", PAGES)
def test_page(phone: Page, address: str, path: str) -> None:
    with visit(phone, f"{address}/{path}") as (_, wrong, _):
        home = phone.locator(".bd-header a")
        expect(home).to_have_text(NAME)
        expect(home).to_be_in_viewport(ratio=1)
        found = look_problems(phone, VIEWS["phone"])
        found += phone.evaluate(TOO_SMALL, [SMALLEST, STYLE["figure.dpi"], LEGIBLE])
        found += phone.evaluate(ASTRAY)
    assert wrong + found == []


def test_the_name_leads_home(phone: Page, address: str) -> None:
    phone.goto(f"{address}/chapters/06_transform.html")
    phone.locator(".bd-header a").tap()
    phone.wait_for_url("**/chapters/index.html")


def test_a_tap_opens_a_figure_at_the_size_it_was_drawn(phone: Page, address: str) -> None:
    phone.goto(f"{address}/chapters/06_transform.html")
    button = phone.locator("#fig-before-after button")
    button.tap()
    large = phone.get_by_role("dialog", name="Fig. 6.2", exact=True)
    expect(large).to_be_visible()
    image = large.get_by_role("img")
    assert image.evaluate("image => image.decode().then(() => [image.offsetWidth, image.naturalWidth])") == [960, 960]
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    large.get_by_role("button", name="Close").tap()
    expect(large).to_be_hidden()
    expect(button).to_be_focused()


def test_the_way_back_to_the_top_is_offered_to_who_scrolls_up(phone: Page, address: str) -> None:
    phone.goto(f"{address}/chapters/07_backpropagation.html")
    up = phone.locator("#pst-back-to-top")
    phone.evaluate("scrollTo(0, 3000)")
    phone.wait_for_function("scrollY === 3000")
    expect(up).to_be_hidden()
    phone.evaluate("scrollTo(0, 2500)")
    up.tap()
    phone.wait_for_function("scrollY === 0")
    expect(up).to_be_hidden()
