"""Chapter 6's dots compute what batch_norm computes, and move as they say."""

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from bnlib import batch_norm
from tests.site.live import live, number, words


@pytest.fixture
def dots(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-dots")


def becomes(figure: Locator, example: int) -> float:
    told = figure.get_by_role("slider", name=f"Example {example}", exact=True).get_attribute("aria-valuetext") or ""
    return number(told.split()[-1])


def test_it_stands_in_the_pictures_place_and_begins_with_the_pages_numbers(live_page: Page, dots: Locator):
    expect(dots.locator(".bn-figure")).to_be_hidden()
    z = np.array([2.0, 4.0, 4.0, 10.0])
    for example, score in enumerate((z - z.mean()) / z.std(), 1):
        assert becomes(dots, example) == pytest.approx(score, abs=0.006)
    assert words(dots).startswith("Mean 5.0, standard deviation 3.0.")
    assert "√3 = 1.73" in words(dots)


def test_the_page_computes_what_bnlib_computes(live_page: Page, dots: Locator):
    rng = np.random.default_rng(0)
    for n in (2, 5, 16):
        for gamma, beta, eps in ((1.0, 0.0, 1e-5), (-1.7, 0.4, 0.3), (0.0, 2.0, 100.0)):
            x = rng.normal(3, 4, n)
            there = live_page.evaluate(
                "([x, ...how]) => import('/_static/figures/dots.js').then(({ normalize }) => normalize(x, ...how))",
                [x.tolist(), gamma, beta, eps],
            )
            y, cache = batch_norm(x[:, None], np.array([gamma]), np.array([beta]), eps=eps)
            np.testing.assert_allclose(there["y"], y[:, 0], rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose([there["mean"], there["variance"]], [*cache.moments.mean, *cache.moments.var])


def test_neighbours_move_the_marked_example_by_keyboard(live_page: Page, dots: Locator):
    before = becomes(dots, 1)
    handle = dots.get_by_role("slider", name="Example 4", exact=True)
    handle.press("ArrowLeft")
    expect(handle).to_have_attribute("aria-valuenow", "9.5")
    handle.press("PageDown")
    expect(handle).to_have_attribute("aria-valuenow", "6.5")
    x = np.array([2, 4, 4, 6.5])
    assert becomes(dots, 1) == pytest.approx((2 - x.mean()) / x.std(), abs=0.006) != before


def test_a_dot_can_be_dragged_and_stays_on_its_line(live_page: Page, dots: Locator):
    handle = dots.get_by_role("slider", name="Example 4", exact=True)
    box = handle.bounding_box()
    assert box
    live_page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    live_page.mouse.down()
    expect(handle).to_be_focused()
    live_page.mouse.move(box["x"] + 5000, box["y"], steps=3)
    expect(dots.locator(".bn-words")).to_have_attribute("aria-live", "off")
    live_page.mouse.up()
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


def test_the_address_keeps_what_was_moved(live_page: Page, dots: Locator, address: str):
    dots.get_by_role("slider", name="examples").fill("7")
    dots.get_by_role("slider", name="Example 7", exact=True).press("ArrowRight")
    told, link = words(dots), live_page.url
    figure = live(live_page, address, "fig-dots", state=link.split("~")[1])
    expect(figure.locator(".bn-words")).to_have_text(told)
