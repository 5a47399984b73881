"""Chapter 14's steps are those of weight norm's gradient, and what is said of them is so."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from bnlib.weightnorm import weight_norm, weight_norm_backward
from tests.site.live import live, number, words


@pytest.fixture
def plane(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-projection")


def walked(v, g, dw, rates, steps: int, projected: bool):
    """All v (steps + 1, 2) and g, by bnlib's gradient; without the projection dv is dw times g over the length of v."""
    vs, gs = [np.array([v], float)], [np.array([g], float)]
    for _ in range(steps):
        grads = weight_norm_backward(np.array([dw], float), weight_norm(vs[-1], gs[-1])[1])
        dv = grads.dv if projected else gs[-1] / np.linalg.norm(vs[-1]) * np.array([dw])
        vs.append(vs[-1] - rates[0] * dv)
        gs.append(gs[-1] - rates[1] * grads.dg)
    return np.concatenate(vs), np.concatenate(gs)


def numbers(figure: Locator) -> list[float]:
    return [number(found) for found in re.findall(r"−?\d+(?:\.\d+)?", words(figure))]


def says(figure: Locator, dw, v=(3, 4), rates=(1, 0.1), steps: int = 6, projected: bool = True) -> None:
    """The figure says how long the gradient and its part along v are, what the first step does and what all do."""
    vs, gs = walked(v, 2, dw, rates, steps, projected)
    sizes = np.linalg.norm(vs, axis=1)
    turned = np.degrees(np.arccos(vs[0] @ vs[1] / sizes[0] / sizes[1]))
    told = [np.linalg.norm(dw), np.dot(dw, vs[0]) / sizes[0], turned, *sizes[:2], steps, sizes[-1], abs(gs[-1])]
    off = np.array([0.06, 0.06, 0.6, *[0.006] * 5])
    assert (abs(np.array(numbers(figure)) - told) < off).all(), (numbers(figure), told)


@pytest.mark.parametrize("projected", [True, False])
def test_the_page_walks_as_bnlib_does(live_page: Page, plane: Locator, projected: bool):
    rng = np.random.default_rng(0)
    for _ in range(5):
        v, dw, g, rates = *rng.normal(size=(2, 2)), rng.normal(), rng.uniform(0, 1, 2)
        there = live_page.evaluate(
            "(all) => import('/_static/figures/projection.js').then(({ walk }) => walk(...all))",
            [v.tolist(), g, dw.tolist(), rates.tolist(), 9, projected],
        )
        vs, gs = walked(v, g, dw, rates, 9, projected)
        np.testing.assert_allclose([one["v"] for one in there], vs, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose([one["g"] for one in there], gs, rtol=1e-9, atol=1e-12)


def test_it_begins_with_the_pages_numbers_and_its_controls_do_what_they_say(plane: Locator):
    says(plane, [5, 0])
    plane.get_by_role("slider", name="rate of v").fill("1.5")
    plane.get_by_role("slider", name="rate of g").fill("0.3")
    plane.get_by_role("slider", name="steps").fill("12")
    says(plane, [5, 0], rates=(1.5, 0.3), steps=12)
    plane.get_by_role("button", name="forget the projection").click()
    says(plane, [5, 0], rates=(1.5, 0.3), steps=12, projected=False)
    plane.get_by_role("button", name="start again").click()
    says(plane, [5, 0])


def test_v_and_the_gradient_follow_the_arrows(plane: Locator):
    plane.get_by_role("slider", name="v", exact=True).press("ArrowRight")
    says(plane, [5, 0], v=(3.2, 4))
    gradient = plane.get_by_role("slider", name="Gradient")
    gradient.press("ArrowRight")  # its arrow points downhill
    gradient.press("ArrowUp")
    says(plane, [4.8, -0.2], v=(3.2, 4))


def test_a_gradient_along_v_leaves_nothing_to_v(live_page: Page, address: str):
    figure = live(live_page, address, "fig-projection", state="%7B%22dw%22%3A%5B3%2C4%5D%7D")
    assert "turns v by 0°, and its length goes from 5.00 to 5.00" in words(figure)


def test_v_is_never_without_a_direction(live_page: Page, address: str):
    for state in ('{"v":[0,0]}', '{"v":[2,0],"dw":[2,0],"forgotten":true}'):
        assert "NaN" not in words(live(live_page, address, "fig-projection", state=state))
