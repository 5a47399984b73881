"""Chapter 4's orders of a step are those of bnlib, and the figure says what becomes of y."""

import re
from math import comb

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from bnlib.deep_linear import update_expansion
from tests.site.live import drag, live, number, words


@pytest.fixture
def chain(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-orders")


def made(figure: Locator) -> list[float]:
    """What y becomes: with order 1, with the first two where there are more, and in truth."""
    return [number(found) for found in re.findall(r"(?:makes?|make) it ([−\d.]+\d)", words(figure))]


def expected(layers: int, weight: float, rate: float, slope: float = 1.0) -> list[float]:
    moved = -rate * slope * weight ** (layers - 2)  # of each weight, relative to itself
    sums = np.cumsum([comb(layers, k) * moved**k for k in range(layers + 1)])
    return [sums[1], *([sums[2]] if layers > 2 else []), sums[-1]]


def test_the_page_computes_what_bnlib_computes(live_page: Page, chain: Locator):
    rng = np.random.default_rng(0)
    for layers in (1, 2, 7, 12):
        w, g, rate = rng.normal(size=layers), rng.normal(size=layers), rng.uniform(0, 2)
        terms = live_page.evaluate(
            "(how) => import('/_static/figures/orders.js').then(({ orders }) => orders(...how))",
            [w.tolist(), g.tolist(), rate],
        )
        np.testing.assert_allclose(terms, update_expansion(w, g, rate), rtol=1e-12, atol=1e-14)


def test_it_begins_with_three_predictions_that_disagree(chain: Locator):
    assert made(chain) == pytest.approx(expected(8, 1, 0.25), abs=0.006)
    assert made(chain) == pytest.approx([-1, 0.75, 0.1], abs=0.006)


def test_rate_depth_weights_and_direction_do_what_they_say(chain: Locator):
    handle = chain.get_by_role("slider", name="Learning rate")
    handle.press("PageDown")
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "0.21")
    assert made(chain) == pytest.approx(expected(8, 1, 0.21), abs=0.006)
    chain.get_by_role("slider", name="layers").fill("3")
    assert made(chain) == pytest.approx(expected(3, 1, 0.21), abs=0.006)
    chain.get_by_role("slider", name="all weights").fill("1.2")
    assert made(chain) == pytest.approx(expected(3, 1.2, 0.21), abs=0.006)
    chain.get_by_role("button", name="larger").click()
    assert made(chain) == pytest.approx(expected(3, 1.2, 0.21, slope=-1), abs=0.006)
    chain.get_by_role("slider", name="layers").fill("2")
    assert made(chain) == pytest.approx(expected(2, 1.2, 0.21, slope=-1), abs=0.006)
    chain.get_by_role("button", name="start again").click()
    assert made(chain) == pytest.approx(expected(8, 1, 0.25), abs=0.006)


def test_the_rate_is_dragged_along_its_axis(live_page: Page, chain: Locator):
    handle = chain.get_by_role("slider", name="Learning rate")
    drag(live_page, handle, 3000)
    expect(handle).to_have_attribute("aria-valuenow", "0.5")
    assert made(chain)[0] == pytest.approx(-3, abs=0.006)
