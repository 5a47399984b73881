"""Chapter 12's unit steps as the chapter's code does, and its words follow rate, decay, steps and start."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.site.live import drag, live, number, words

RATES, DECAYS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10], [0, 0.001, 0.003, 0.01, 0.03, 0.1]


@pytest.fixture
def circle(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-circle")


def wander(w: np.ndarray, lr: float, decay: float, signs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The chapter's lines: the weights after each step, and the angle of each step."""
    path, angles = [w], []
    for sign in signs:
        w = path[-1]
        across = np.array([w[1], -w[0]]) / (w @ w)
        new = w - sign * lr * across - lr * decay * w
        angles.append(np.arccos(w @ new / np.linalg.norm(w) / np.linalg.norm(new)))
        path.append(new)
    return np.array(path), np.array(angles)


def told(figure: Locator) -> list[float]:
    """Length and last angle, in balance and without decay too, where there is decay."""
    return [number(found) for found in re.findall(r"(?:are |dashed\): |by |= )([\d.]*\d)", words(figure))]


def test_the_page_computes_what_the_chapters_code_computes(live_page: Page, circle: Locator):
    rng = np.random.default_rng(0)
    for lr, decay in ((1.0, 0.03), (10.0, 0.0), (0.3, 0.1)):
        start, signs = rng.normal(0, 3, 2), rng.choice([-1, 1], 60)
        there = live_page.evaluate(
            "(given) => import('/_static/figures/circle.js').then(({ wander }) => wander(...given))",
            [start.tolist(), lr, decay, "".join("1" if sign > 0 else "0" for sign in signs)],
        )
        path, angles = wander(start, lr, decay, signs)
        np.testing.assert_allclose(there["path"], path, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(there["angles"], angles, atol=1e-7)
        np.testing.assert_allclose(there["lengths"], np.linalg.norm(path, axis=1), rtol=1e-9)


def test_it_begins_with_the_chapters_walk(circle: Locator):
    signs = np.random.default_rng(0).choice([-1, 1], 400)
    expected = []
    for decay in (0.03, 0):
        path, angles = wander(np.array([3.0, 4.0]), 1, decay, signs)
        expected += [np.linalg.norm(path[-1]), angles[-1]]
    expected[2:2] = [(1 / 0.06) ** 0.25, 0.06**0.5]
    assert told(circle) == pytest.approx(expected, abs=0.006)


def test_rate_decay_and_steps_give_their_length_and_angle(circle: Locator):
    for slider, place in (("rate", 3), ("decay", 5), ("steps", 130)):
        circle.get_by_role("slider", name=slider).fill(str(place))
    signs = np.random.default_rng(0).choice([-1, 1], 130)
    path, angles = wander(np.array([3.0, 4.0]), RATES[3], DECAYS[5], signs)
    assert words(circle).startswith("Rate 0.3, decay 0.1: after 130 steps")
    assert told(circle)[:4] == pytest.approx([np.linalg.norm(path[-1]), angles[-1], 1.5**0.25, 0.06**0.5], abs=0.006)
    circle.get_by_role("slider", name="decay").fill("0")
    assert words(circle).startswith("Rate 0.3, no decay")
    assert len(told(circle)) == 2


def test_another_draw_is_another_path_of_the_same_lengths(circle: Locator):
    before, said = circle.locator("svg").inner_html(), words(circle)
    circle.get_by_role("button", name="another draw").click()
    assert circle.locator("svg").inner_html() != before
    assert words(circle) == said


def test_the_start_is_dragged_and_never_shorter_than_a_half(live_page: Page, circle: Locator):
    start = circle.get_by_role("slider", name="Start of the weights")
    for _ in range(20):
        start.press("PageDown")
    assert float(start.get_attribute("aria-valuenow") or 0) == pytest.approx(0.5, abs=0.01)
    drag(live_page, start, 5000)
    expect(start).to_have_attribute("aria-valuenow", re.compile(r"^(6|5\.99)$"))
