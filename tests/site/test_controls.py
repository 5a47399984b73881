"""What the page's buttons do, by mouse and keyboard: menus, tips, figures opened large."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect


@pytest.fixture
def chapter(chromium: Browser, address: str) -> Iterator[Page]:
    """A chapter on a wide screen."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.goto(f"{address}/chapters/06_transform.html")
    yield page
    page.close()


def test_enter_opens_a_figure_and_escape_leads_back(chapter: Page) -> None:
    button = chapter.locator("#fig-before-after button")
    button.press("Enter")
    large = chapter.get_by_role("dialog", name="Fig. 6.2", exact=True)
    expect(large).to_be_visible()
    expect(large.get_by_role("button", name="Close")).to_be_focused()
    expect(large.get_by_role("img")).to_have_attribute("alt", button.locator("img").get_attribute("alt") or "")
    chapter.keyboard.press("Tab")
    expect(large.locator("div")).to_be_focused()  # where arrow keys scroll
    chapter.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(button).to_be_focused()


def test_a_click_beside_a_large_figure_closes_it(chapter: Page) -> None:
    chapter.locator("#fig-before-after button").click()
    expect(chapter.locator(".bn-large")).to_be_visible()
    chapter.mouse.click(5, 400)
    expect(chapter.locator(".bn-large")).to_be_hidden()


def test_a_menu_by_keyboard(chapter: Page) -> None:
    button = chapter.get_by_label("Download this page")
    items = chapter.locator(".dropdown-download-buttons .dropdown-item")
    expect(items.first).to_be_hidden()
    button.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(items.first).to_be_visible()
    chapter.keyboard.press("ArrowDown")
    expect(items.first).to_be_focused()
    chapter.keyboard.press("ArrowDown")
    expect(items.nth(1)).to_be_focused()
    chapter.keyboard.press("ArrowUp")
    expect(items.first).to_be_focused()
    chapter.keyboard.press("Escape")
    expect(items.first).to_be_hidden()
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("leave", ["click", "Tab"])
def test_a_menu_closes_when_it_is_left(chapter: Page, leave: str) -> None:
    button = chapter.get_by_label("Download this page")
    items = chapter.locator(".dropdown-download-buttons .dropdown-item")
    button.press("Enter")
    if leave == "click":
        chapter.mouse.click(640, 400)
    else:
        for _ in range(items.count() + 1):
            chapter.keyboard.press("Tab")
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(items.first).to_be_hidden()


def test_a_tip_says_what_a_button_does(chapter: Page) -> None:
    tip = chapter.locator(".bn-tip")
    chapter.get_by_label("Download this page").focus()
    expect(tip).to_be_hidden()
    chapter.keyboard.press("Tab")
    expect(chapter.get_by_role("button", name="Color mode")).to_be_focused()
    expect(tip).to_have_text("Color mode")
    expect(tip).to_be_visible()
    chapter.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    chapter.get_by_role("button", name="Toggle primary sidebar").hover()
    expect(tip).to_have_text("Toggle primary sidebar")
    expect(tip).to_be_visible()
    chapter.mouse.move(640, 400)
    expect(tip).to_be_hidden()


def test_a_link_opens_the_folds_around_what_it_leads_to(chapter: Page) -> None:
    card = chapter.locator(".cell details .bn-claim").first
    expect(card).to_be_hidden()
    # As in a browser that does not do it by itself.
    chapter.evaluate("id => history.replaceState(null, '', `#${id}`)", card.get_attribute("id"))
    chapter.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
    expect(card).to_be_visible()
    expect(card).to_be_in_viewport()
