"""Chapter 7's gradient of three values is bnlib's, and loses the parts that the words name."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from bnlib import batch_norm, normalize_backward
from tests.site.live import drag, live, number, words

X = np.array([1.0, 2.0, 4.0])
PARTS = ("Part along 1", "Part along x̂", "Part along the third direction")


@pytest.fixture
def space(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-three-parts")


def handle(figure: Locator, k: int) -> Locator:
    return figure.get_by_role("slider", name=PARTS[k], exact=True)


def gradients(dy: np.ndarray, x: np.ndarray, gamma: float, eps: float) -> tuple[np.ndarray, ...]:
    _, cache = batch_norm(x[:, None], np.array([gamma]), np.zeros(1), eps=eps)
    grads = normalize_backward(dy[:, None], cache)
    return tuple(np.ravel(one) for one in grads)


def shown(figure: Locator) -> list[float]:
    """The numbers beside the bars, dx of each example."""
    return [number(text.split()[1]) for text in figure.locator("svg text").all_text_contents() if text.startswith("dx")]


def expected(parts: list[float], eps: float) -> np.ndarray:
    """dx of a gradient with these parts: the third direction by a cross product, dx by bnlib."""
    score = (X - X.mean()) / X.std()
    third = np.cross(np.ones(3), score)
    third *= np.sqrt(3) / np.linalg.norm(third) * np.sign(third[0])
    return gradients(np.array(parts) @ [np.ones(3), score, third], X, 1.0, eps)[0]


def test_the_page_computes_what_bnlib_computes(live_page: Page, space: Locator):
    rng = np.random.default_rng(0)
    for m in (2, 3, 8):
        for gamma, eps in ((1.0, 1e-5), (-1.3, 0.2), (0.0, 10.0)):
            x, dy = rng.normal(2, 3, m), rng.normal(size=m)
            there = live_page.evaluate(
                "(how) => import('/_static/figures/three_parts.js').then(({ backward }) => backward(...how))",
                [dy.tolist(), x.tolist(), gamma, eps],
            )
            dx, dgamma, dbeta = gradients(dy, x, gamma, eps)
            np.testing.assert_allclose(there["dx"], dx, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose([there["dgamma"], there["dbeta"]], [*dgamma, *dbeta], rtol=1e-9, atol=1e-12)


def test_its_three_directions_are_at_right_angles_and_of_one_length(live_page: Page, space: Locator):
    base = np.array(
        live_page.evaluate(
            "(x) => import('/_static/figures/three_parts.js').then(({ directions }) => directions(x))", X.tolist()
        )
    )
    np.testing.assert_allclose(base @ base.T, 3 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(base[1], (X - X.mean()) / X.std())


def test_of_a_shift_nothing_stays_and_of_a_stretch_what_eps_lets_through(space: Locator):
    assert shown(space) == pytest.approx(expected([0.8, 0.6, 0.7], 1e-5), abs=0.006)
    space.get_by_role("button", name="only a shift").click()
    assert shown(space) == [0, 0, 0]
    space.get_by_role("button", name="only a stretch").click()
    assert shown(space) == [0, 0, 0]
    space.get_by_role("slider", name="log₁₀ ε").fill("0.5")
    assert shown(space) == pytest.approx(expected([0, 0.8, 0], 10**0.5), abs=0.006)
    var = X.var()
    stays = 0.8 * 10**0.5 / (var + 10**0.5)
    said = handle(space, 1).get_attribute("aria-valuetext") or ""
    assert number(said.split()[-2]) == pytest.approx(stays, abs=0.006)
    left = re.search(r"its scale, (\S+), (\S+) and (\S+) are left", words(space))
    assert left
    assert [number(one) for one in left.groups()] == pytest.approx([0, stays, 0], abs=0.006)


def test_each_part_moves_by_keys_and_along_its_direction(live_page: Page, space: Locator):
    handle(space, 2).press("PageDown")
    expect(handle(space, 2)).to_have_attribute("aria-valuenow", "0.2")
    handle(space, 0).press("ArrowUp")
    expect(handle(space, 0)).to_have_attribute("aria-valuenow", "0.85")
    assert shown(space) == pytest.approx(expected([0.85, 0.6, 0.2], 1e-5), abs=0.006)
    drag(live_page, handle(space, 1), -500, -70)
    expect(handle(space, 1)).to_have_attribute("aria-valuenow", "-1")
    assert shown(space) == pytest.approx(expected([0.85, -1, 0.2], 1e-5), abs=0.006)


def test_what_goes_back_into_the_page_follows_the_pointer(live_page: Page, space: Locator):
    third = handle(space, 2)
    before = float(third.get_attribute("aria-valuenow") or 0)
    # The direction on the page is (0.7, -0.45), and 82 pixels are 1.
    drag(live_page, third, -1.2 * 82 * 0.7, 1.2 * 82 * 0.45)
    assert float(third.get_attribute("aria-valuenow") or 0) == pytest.approx(before - 1.2, abs=0.051)
