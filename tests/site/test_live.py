"""Every live figure takes its picture's place, and each of its controls does something, by mouse, keys and address."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from _ext.live import live_figures
from bnlib import plots
from tests.site.conftest import ROOT
from tests.site.live import CHAPTERS, live, words

each = pytest.mark.parametrize("name", list(CHAPTERS))


def axe(page: Page, name: str) -> None:
    found = Axe().run(page, f"#{name}")
    assert found.violations_count == 0, found.generate_report()


def seen(figure: Locator) -> str:
    """What a figure draws and says, without its controls."""
    return figure.locator(".bn-body").inner_html() + words(figure)


@each
def test_every_slider_and_handle_moves_by_the_keyboard(live_page: Page, address: str, name: str):
    figure = live(live_page, address, name)
    expect(figure.locator(".bn-figure")).to_be_hidden()
    assert words(figure).endswith(".")
    for slider in figure.get_by_role("slider").all():
        if not slider.is_visible():
            continue
        before, value = seen(figure), slider.get_attribute("aria-valuetext")
        slider.focus()
        moved = False
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown"):  # from an end, back
            live_page.keyboard.press(key)
            moved = moved or (seen(figure) != before and slider.get_attribute("aria-valuetext") != value)
        assert moved, f"{slider.get_attribute('aria-label')} stays at {value}"


@each
def test_every_button_changes_the_picture(live_page: Page, address: str, name: str):
    figure = live(live_page, address, name)
    for slider in figure.locator("input[type=range]").all():
        slider.press("End")
    buttons = figure.locator(".bn-controls button").all()
    pressed = [button for button in buttons if button.get_attribute("aria-pressed") == "true"]
    for button in [button for button in buttons if button not in pressed] + pressed:
        if button.get_attribute("aria-pressed") == "true":  # one of several that has been chosen before: choose another
            button.locator("xpath=../button[@aria-pressed='false']").first.click()
        before = seen(figure)
        button.click()
        assert seen(figure) != before, f"{button.inner_text()!r} changes nothing"


@each
def test_what_was_moved_stands_in_the_address(live_page: Page, address: str, name: str, chromium: Browser):
    figure = live(live_page, address, name)
    control = figure.get_by_role("slider").or_(figure.get_by_role("button", pressed=False)).first
    control.press("ArrowRight") if control.get_attribute("role") == "slider" else control.click()
    other = chromium.new_page(viewport={"width": 1280, "height": 900})
    other.goto(live_page.url)
    expect(other.locator(f"#{name} .bn-words")).to_have_text(words(figure))
    expect(other.locator(f"#{name}")).to_be_in_viewport()
    other.close()
    nonsense = f"{address}/chapters/{CHAPTERS[name]}.html#{name}~"
    for told in ("%7B", "%5B1%5D", "%7B%22chosen%22%3A%22x%22%2C%22x%22%3A%5B1%5D%7D", "null"):
        other = chromium.new_page()
        other.goto(nonsense + told)
        expect(other.locator(f"#{name} .bn-words")).to_contain_text(".")
        other.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each
def test_axe_finds_nothing_in_several_states(chromium: Browser, address: str, scheme: str, name: str):
    page = chromium.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme, has_touch=True)  # type: ignore[arg-type]
    figure = live(page, address, name)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    axe(page, name)
    for slider in figure.locator("input[type=range]").all():
        slider.press("End")
    axe(page, name)
    for button in figure.locator(".bn-controls button").all():
        button.tap()
    axe(page, name)
    beyond = figure.evaluate("""figure => [...figure.querySelectorAll(".bn-live svg text")].filter((text) => {
      const [own, all] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
      return Math.min(own.left - all.left, all.right - own.right, own.top - all.top, all.bottom - own.bottom) < -1;
    }).map((text) => text.textContent)""")
    assert beyond == []
    page.close()


@each
def test_without_scripts_and_on_paper_there_is_the_picture(chromium: Browser, live_page: Page, address: str, name: str):
    figure = live(live_page, address, name)
    live_page.emulate_media(media="print")
    expect(figure.locator(".bn-live")).to_be_hidden()
    expect(figure.locator("img")).to_be_visible()
    context = chromium.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{address}/chapters/{CHAPTERS[name]}.html")
    expect(plain.locator(f"#{name} img")).to_be_visible()
    expect(plain.locator(f"#{name} .bn-live")).to_be_hidden()
    context.close()


@pytest.mark.parametrize("missing", ["dots.js", "kit.js", "live.css"])
def test_the_picture_stays_where_a_file_does_not_come(chromium: Browser, address: str, missing: str):
    page = chromium.new_page()
    page.route(f"**/{missing}", lambda route: route.abort())
    page.goto(f"{address}/chapters/{CHAPTERS['fig-dots']}.html")
    with page.expect_event("pageerror"):
        page.locator("#fig-dots").scroll_into_view_if_needed()
    expect(page.locator("#fig-dots img")).to_be_visible()
    expect(page.locator("#fig-dots .bn-live")).to_be_hidden()
    page.close()


def test_every_live_figure_has_a_module_and_every_module_a_figure(site: Path):
    modules = set()
    for name, chapter in CHAPTERS.items():
        notebook = json.loads((ROOT / f"chapters/{chapter}.ipynb").read_text("utf-8"))
        modules.add(live_figures(notebook)[name]["module"])
        text = (site / f"chapters/{chapter}.html").read_text("utf-8")
        assert re.search(rf'<figure[^>]*id="{name}"[^>]*><div class="bn-live"', text)
    assert modules == set(plots.live_modules())
    assert {path.name for path in (site / "_static/figures").iterdir()} == {
        path.name for path in plots.FIGURES.iterdir()
    }
