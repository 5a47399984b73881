"""Every live figure takes its picture's place, and each of its controls does something, by mouse, keys and address."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from bnlib import plots, widget
from tests.site.live import CHAPTERS, LIVE, live, words

each = pytest.mark.parametrize("name", list(CHAPTERS))


def axe(page: Page, name: str) -> None:
    found = Axe().run(page, f"#{name}")
    assert found.violations_count == 0, found.generate_report()


def seen(figure: Locator) -> str:
    """What a figure draws and says, without its controls."""
    return figure.locator(".bn-body").inner_html() + words(figure)


@each
def test_every_control_changes_the_picture_and_on_paper_there_is_the_first_one(
    live_page: Page, address: str, name: str
):
    figure = live(live_page, address, name)
    expect(figure.locator(".bn-figure")).to_be_hidden()
    assert words(figure).endswith(".")
    for slider in figure.get_by_role("slider").all():
        if not slider.is_visible():
            continue
        before, value = seen(figure), slider.get_attribute("aria-valuetext")
        slider.focus()
        for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowDown", "ArrowDown"):  # from an end, back
            live_page.keyboard.press(key)
            if seen(figure) != before and slider.get_attribute("aria-valuetext") != value:
                break
        else:
            raise AssertionError(f"{slider.get_attribute('aria-label')} stays at {value}")
    for slider in figure.locator("input[type=range]").all():
        slider.press("End")
    buttons = figure.locator(".bn-controls button").all()
    pressed = [button for button in buttons if button.get_attribute("aria-pressed") == "true"]
    for button in [button for button in buttons if button not in pressed] + pressed:
        if button.get_attribute("aria-pressed") == "true":  # one of several that has been chosen before: choose another
            button.locator("xpath=../button[@aria-pressed='false']").first.click()
        before = seen(figure)
        button.click()
        if seen(figure) == before:  # it may have set what the last one set
            for slider in figure.locator("input[type=range]").all():
                slider.press("Home")
            before = seen(figure)
            button.click()
        assert seen(figure) != before, f"{button.inner_text()!r} changes nothing"
    live_page.emulate_media(media="print")
    expect(figure.locator(".bn-live")).to_be_hidden()
    expect(figure.locator("img")).to_be_visible()


@each
def test_what_was_moved_stands_in_the_address(live_page: Page, address: str, name: str):
    figure = live(live_page, address, name)
    control = figure.get_by_role("slider").or_(figure.get_by_role("button", pressed=False)).first
    control.click() if control.evaluate("control => control.tagName") == "BUTTON" else control.press("ArrowRight")
    state, told = live_page.url.split("~")[1], words(figure)
    assert words(live(live_page, address, name, state=state)) == told


@each
def test_on_a_phone_it_fits_and_obeys_a_finger(phone: Page, address: str, name: str):
    figure = live(phone, address, name, alone=name != "fig-dots")
    for handle in figure.locator(".bn-handle").filter(visible=True).all()[:1]:
        handle.scroll_into_view_if_needed()
        before, top = seen(figure), phone.evaluate("scrollY")
        box = handle.locator(".bn-touch").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        finger = phone.context.new_cdp_session(phone)
        for kind, points in (
            ("touchStart", [{"x": x, "y": y}]),
            *(("touchMove", [{"x": x + 8 * k, "y": y + 6 * k}]) for k in range(1, 5)),
            ("touchEnd", []),
        ):
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert seen(figure) != before, "a finger does not move the first handle"
        assert phone.evaluate("scrollY") == top
    for button in figure.locator(".bn-controls button").all()[:2]:
        button.tap()
    assert phone.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@each
def test_axe_finds_nothing_in_several_states_and_no_text_is_cut(live_page: Page, address: str, name: str):
    live_page.set_viewport_size({"width": 360, "height": 800})
    live_page.emulate_media(color_scheme="dark")
    figure = live(live_page, address, name)
    axe(live_page, name)
    for slider in figure.locator("input[type=range]").all():
        slider.press("End")
    axe(live_page, name)
    for button in figure.locator(".bn-controls button").all():
        button.click()
    live_page.evaluate("document.documentElement.dataset.theme = 'light'")
    axe(live_page, name)
    beyond = figure.evaluate("""figure => [...figure.querySelectorAll(".bn-live svg text")].filter((text) => {
      const [own, all] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
      return Math.min(own.left - all.left, all.right - own.right, own.top - all.top, all.bottom - own.bottom) < -1;
    }).map((text) => text.textContent)""")
    assert beyond == []


def test_without_scripts_there_is_the_picture(chromium: Browser, address: str):
    context = chromium.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(f"{address}/chapters/{CHAPTERS['fig-dots']}.html")
    expect(plain.locator("#fig-dots img")).to_be_visible()
    expect(plain.locator("#fig-dots .bn-live")).to_be_hidden()
    context.close()


def test_nonsense_in_the_address_is_as_none(live_page: Page, address: str):
    begins = words(live(live_page, address, "fig-dots"))
    for state in ("%7B", "%5B1%5D", "%7B%22n%22%3A%22x%22%2C%22x%22%3A%5B1%5D%7D", "null", "%7B%22n%22%3Anull%7D"):
        assert words(live(live_page, address, "fig-dots", state=state)) == begins


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


def test_in_a_notebook_the_module_comes_in_one_piece(live_page: Page, address: str):
    live(live_page, address, "fig-dots")
    there = live_page.evaluate(
        """async ([source, state]) => {
          const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
          const { default: figure } = await import(address);
          const model = { get: (name) => state[name], on() {} };
          const el = document.querySelector("main").appendChild(document.createElement("div"));
          figure.render({ model, el });
          await new Promise(requestAnimationFrame);
          await new Promise(requestAnimationFrame);
          return el.querySelector(".bn-words").textContent;
        }""",
        [widget.source("dots"), {"x": [1, 3, 9], "n": 2, "gamma": 1, "beta": 0, "log_eps": -5}],
    )
    assert there.startswith("Mean 2.0, standard deviation 1.0.")


def test_every_live_figure_has_a_module_and_every_module_a_figure(site: Path):
    for name, chapter in CHAPTERS.items():
        text = (site / f"chapters/{chapter}.html").read_text("utf-8")
        assert re.search(rf'<figure[^>]*id="{name}"[^>]*><div class="bn-live"', text)
    assert {figure["module"] for _, figure in LIVE.values()} == set(plots.live_modules())
    assert {path.name for path in (site / "_static/figures").iterdir()} == {
        path.name for path in widget.FIGURES.iterdir()
    }
