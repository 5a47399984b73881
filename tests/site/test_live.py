"""Live figures take their pictures' places, compute what bnlib computes, and obey mouse, keyboard and address."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from _ext.live import live_figures
from bnlib import batch_norm, plots
from tests.site.conftest import ROOT

CHAPTER = "chapters/06_transform.html"
CHAPTERS = {"dots": CHAPTER, "tokens": "chapters/16_transformers.html"}  # of each figure


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A wide screen; no error on its console."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []
    page.close()


def live(page: Page, address: str, name: str) -> Locator:
    """A figure, live."""
    page.goto(f"{address}/{CHAPTERS[name]}")
    figure = page.locator(f"#fig-{name}")
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".bn-live")).to_be_visible()
    return figure


@pytest.fixture
def dots(page: Page, address: str) -> Locator:
    """Batch norm of one unit."""
    return live(page, address, "dots")


@pytest.fixture
def tokens(page: Page, address: str) -> Locator:
    """What a prediction depends on."""
    return live(page, address, "tokens")


def words(figure: Locator) -> str:
    return figure.locator(".bn-words").inner_text()


def becomes(figure: Locator, example: int) -> float:
    told = figure.get_by_role("slider", name=f"Example {example}", exact=True).get_attribute("aria-valuetext") or ""
    return float(told.split()[-1].replace("−", "-"))


def test_it_stands_in_the_pictures_place_and_begins_with_the_pages_numbers(page: Page, dots: Locator):
    expect(dots.locator(".bn-figure")).to_be_hidden()
    z = np.array([2.0, 4.0, 4.0, 10.0])
    for example, score in enumerate((z - z.mean()) / z.std(), 1):
        assert becomes(dots, example) == pytest.approx(score, abs=0.006)
    assert words(dots).startswith("Mean 5.0, standard deviation 3.0.")
    assert "√3 = 1.73" in words(dots)


def test_the_page_computes_what_bnlib_computes(page: Page, dots: Locator):
    rng = np.random.default_rng(0)
    for n in (2, 5, 16):
        for gamma, beta, eps in ((1.0, 0.0, 1e-5), (-1.7, 0.4, 0.3), (0.0, 2.0, 100.0)):
            x = rng.normal(3, 4, n)
            there = page.evaluate(
                "([x, ...how]) => import('/_static/figures/dots.js').then(({ normalize }) => normalize(x, ...how))",
                [x.tolist(), gamma, beta, eps],
            )
            y, cache = batch_norm(x[:, None], np.array([gamma]), np.array([beta]), eps=eps)
            np.testing.assert_allclose(there["y"], y[:, 0], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose([there["mean"], there["variance"]], [*cache.moments.mean, *cache.moments.var])


def test_neighbours_move_the_marked_example_by_keyboard(page: Page, dots: Locator):
    before = becomes(dots, 1)
    handle = dots.get_by_role("slider", name="Example 4", exact=True)
    handle.press("ArrowLeft")
    expect(handle).to_have_attribute("aria-valuenow", "9.5")
    handle.press("PageDown")
    expect(handle).to_have_attribute("aria-valuenow", "6.5")
    x = np.array([2, 4, 4, 6.5])
    assert becomes(dots, 1) == pytest.approx((2 - x.mean()) / x.std(), abs=0.006) != before


def test_a_dot_can_be_dragged_and_stays_on_its_line(page: Page, dots: Locator):
    handle = dots.get_by_role("slider", name="Example 4", exact=True)
    box = handle.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    expect(handle).to_be_focused()
    page.mouse.move(box["x"] + 5000, box["y"], steps=3)
    expect(dots.locator(".bn-words")).to_have_attribute("aria-live", "off")
    page.mouse.up()
    expect(dots.locator(".bn-words")).to_have_attribute("aria-live", "polite")
    expect(handle).to_have_attribute("aria-valuenow", "24")


@pytest.mark.parametrize(
    ("name", "value", "effect"),
    [("γ", "2", -2.0), ("β", "1.5", 0.5), ("log₁₀ ε", "2", -3 / np.sqrt(109)), ("examples", "2", -1.0)],
)
def test_each_slider_does_what_it_says(dots: Locator, name: str, value: str, effect: float):
    dots.get_by_role("slider", name=name).fill(value)
    assert becomes(dots, 1) == pytest.approx(effect, abs=0.006)


def test_shift_and_scale_leave_the_scores_and_the_others_do_not(dots: Locator):
    before = [becomes(dots, example) for example in (1, 2, 3, 4)]
    for press in ("add 3 to all", "halve all"):
        dots.get_by_role("button", name=press).click()
        assert [becomes(dots, example) for example in (1, 2, 3, 4)] == pytest.approx(before, abs=0.006)
    assert words(dots).startswith("Mean 4.0, standard deviation 1.5.")
    first = dots.get_by_role("slider", name="Example 1", exact=True)
    stays = first.get_attribute("aria-valuenow") or ""
    dots.get_by_role("button", name="move the others").click()
    expect(first).to_have_attribute("aria-valuenow", stays)
    assert becomes(dots, 1) != pytest.approx(before[0], abs=0.1)
    dots.get_by_role("button", name="start again").click()
    assert [becomes(dots, example) for example in (1, 2, 3, 4)] == before


def test_the_address_keeps_what_was_moved(page: Page, dots: Locator, chromium: Browser, address: str):
    dots.get_by_role("slider", name="examples").fill("7")
    dots.get_by_role("slider", name="Example 7", exact=True).press("ArrowRight")
    told, link = words(dots), page.url
    other = chromium.new_page()
    other.goto(link)
    figure = other.locator("#fig-dots")
    expect(figure.locator(".bn-words")).to_have_text(told)
    expect(figure).to_be_in_viewport()
    other.goto("about:blank")
    other.goto(f"{address}/{CHAPTER}#fig-dots~" + "%7B%22n%22%3A%22x%22%2C%22x%22%3A%5B1%5D%7D")  # of another kind
    figure.scroll_into_view_if_needed()
    expect(figure.locator(".bn-words")).to_contain_text("Mean 5.0, standard deviation 3.0.")
    other.close()


def told(figure: Locator) -> list[int]:
    """The numbers in the words: other places of the same statistics, places that count, future, others, padding."""
    return [int(number) for number in re.findall(r"\d+(?= (?:other|place|of))", words(figure).split("shares")[1])]


def test_a_prediction_with_batch_norm_depends_on_all_and_with_layer_norm_on_its_past(tokens: Locator):
    assert told(tokens) == [31, 32, 4, 24, 7]
    tokens.get_by_role("button", name="layer norm").click()
    assert told(tokens) == [0, 4, 0, 0, 0]
    expect(tokens.locator(".bn-seen")).to_have_count(4)
    expect(tokens.locator(".bn-shares")).to_have_count(1)


def test_another_place_is_chosen_by_a_click_or_the_arrows(page: Page, tokens: Locator, chromium: Browser):
    tokens.get_by_role("button", name="layer norm").click()
    tokens.get_by_role("button", name="Sequence 3, position 7, padding").click()
    assert told(tokens) == [0, 7, 0, 0, 3]
    for key, name, sees in (("ArrowUp", "Sequence 2, position 7", 7), ("ArrowLeft", "Sequence 2, position 6", 6)):
        page.keyboard.press(key)
        expect(tokens.get_by_role("button", name=name, exact=True)).to_be_focused()
        assert told(tokens)[1] == sees
    expect(tokens.locator("button[tabindex='0']")).to_have_count(1)
    other = chromium.new_page()
    other.goto(page.url)
    expect(other.locator("#fig-tokens .bn-words")).to_have_text(words(tokens))
    other.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("dots", [("slider", "examples"), ("slider", "γ")]),
        ("tokens", [("button", "layer norm"), ("button", "Sequence 4, position 8, padding")]),
    ],
)
def test_axe_finds_nothing_in_several_states(
    chromium: Browser, address: str, scheme: str, name: str, moves: list[tuple[str, str]]
):
    page = chromium.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    figure = live(page, address, name)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    for move in [None, *moves]:
        if move:
            control = figure.get_by_role(move[0], name=move[1])  # type: ignore[arg-type]
            control.fill("2") if move[0] == "slider" else control.click()
        found = Axe().run(page, f"#fig-{name}")
        assert found.violations_count == 0, found.generate_report()
    page.close()


def test_without_scripts_and_on_paper_there_is_the_picture(chromium: Browser, page: Page, dots: Locator, address: str):
    page.emulate_media(media="print")
    expect(dots.locator(".bn-live")).to_be_hidden()
    expect(dots.locator("img")).to_be_visible()
    plain = chromium.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{address}/{CHAPTER}")
    expect(plain.locator("#fig-dots img")).to_be_visible()
    expect(plain.locator("#fig-dots .bn-live")).to_be_hidden()
    plain.context.close()


def test_the_picture_stays_where_the_module_does_not_come(chromium: Browser, address: str):
    page = chromium.new_page()
    page.route("**/dots.js", lambda route: route.abort())
    page.goto(f"{address}/{CHAPTER}")
    with page.expect_event("pageerror"):
        page.locator("#fig-dots").scroll_into_view_if_needed()
    expect(page.locator("#fig-dots img")).to_be_visible()
    expect(page.locator("#fig-dots .bn-live")).to_be_hidden()
    page.close()


def test_every_live_figure_has_a_module_and_every_module_a_figure(site: Path):
    named = {}
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        for name, live in live_figures(json.loads(path.read_text("utf-8"))).items():
            named[path.stem, name] = live["module"]
            text = (site / f"chapters/{path.stem}.html").read_text("utf-8")
            assert re.search(rf'<figure[^>]*id="{name}"[^>]*><div class="bn-live"', text)
    modules = {path.stem for path in plots.MODULES.glob("*.js")} - {"host"}
    assert set(named.values()) == modules
    assert {path.stem for path in (site / "_static/figures").iterdir()} == modules | {"host"}
