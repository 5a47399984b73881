"""Chapter 2's figure shows what its networks do: their gradient by the chapter's own formulas, in NumPy."""

from itertools import pairwise

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from bnlib.data import load
from tests.site.live import STATES, live, words

UNITS = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "ReLU": (lambda z: z.clip(0), lambda z: (z > 0) * 1.0),
}


@pytest.fixture
def depth(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-depth")


def network(unit: str, gain: float) -> tuple[np.ndarray, float, float]:
    """What layer 20 is given; decades of the differences from 1 up to 20, and of the gradient from 20 down to 1."""
    (phi, slope), rng, data = UNITS[unit], np.random.default_rng(0), load("digits", seed=0)
    weights = [rng.normal(0, gain / n**0.5, (n, out)) for n, out in pairwise([64, *[100] * 20, 10])]
    h, zs = data.x_train[:60], []
    for W in weights:
        zs.append(h @ W)
        h = phi(zs[-1])
    p = np.exp(zs[-1] - zs[-1].max(1, keepdims=True))
    dz = p / p.sum(1, keepdims=True) - np.eye(10)[data.y_train[:60]]
    sizes = []
    for W, z in zip(weights[:0:-1], zs[-2::-1], strict=True):
        dz = dz @ W.T * slope(z)
        sizes.append(np.sqrt((dz**2).mean()))
    spread = [z.std(0).mean() for z in zs]
    return zs[19], np.log10(spread[19] / spread[0]), np.log10(sizes[-1] / sizes[0])


def told(figure: Locator) -> tuple[float, float, int]:
    """The decades of differences and gradient, and the percentage, that the figure tells."""
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    text = words(figure)
    of = [part.split()[0].rstrip(",.") for part in text.split("by about ")[1:]]
    up, down = (float(one[2:].translate(raised)) if one[-1] in "⁰¹²³⁴⁵⁶⁷⁸⁹" else np.log10(float(one)) for one in of)
    return up, down, int(text.split("In the flat part lie ")[1].split("\u00a0")[0])


@pytest.mark.parametrize(("unit", "at"), [("sigmoid", 1), ("sigmoid", 8), ("tanh", 3), ("ReLU", 2)])
def test_it_tells_what_the_chapters_network_does(depth: Locator, unit: str, at: int):
    gain = STATES["fig-depth"]["gains"][at]
    assert gain == pytest.approx(2 ** ((at - 1) / 2), abs=0.006)
    depth.get_by_role("slider", name="gain").fill(str(at))
    depth.get_by_role("button", name=unit, exact=True).click()
    given, up, down = network(unit, 2 ** ((at - 1) / 2))
    flat = (given < 0 if unit == "ReLU" else abs(given) > {"sigmoid": 4, "tanh": 2}[unit]).mean()
    differences, gradient, percent = told(depth)
    assert differences == pytest.approx(up, abs=0.5 if abs(up) >= 2.5 else 0.2)
    assert gradient == pytest.approx(down, abs=0.5 if abs(down) >= 2.5 else 0.2)
    assert percent == pytest.approx(100 * flat, abs=0.6)


def test_untouched_nothing_is_saturated_and_the_gradient_is_gone(depth: Locator):
    differences, gradient, percent = told(depth)
    assert percent == 0
    assert max(differences, gradient) < -11


def test_standardized_the_gain_does_not_matter_to_what_enters(live_page: Page, depth: Locator):
    depth.get_by_role("button", name="standardize in every layer").click()
    areas = depth.locator("path.bn-area")
    before = [area.get_attribute("d") for area in areas.all()]
    depth.get_by_role("slider", name="gain").fill("7")
    assert [area.get_attribute("d") for area in areas.all()] == before
    assert told(depth)[0] == pytest.approx(0, abs=0.05)
    depth.get_by_role("button", name="standardize in every layer").click()
    expect(areas.first).not_to_have_attribute("d", before[0] or "")


def test_powers_of_ten_are_read_as_they_are_written(live_page: Page, depth: Locator):
    script = "all => import('/_static/figures/depth.js').then(({ power }) => all.map(power))"
    said = live_page.evaluate(script, [-12, -6.4, -2, -0.7, 0.15, 1.5, 7])
    assert said == ["10⁻¹²", "10⁻⁶", "0.01", "0.2", "1.4", "30", "10⁷"]
    row = "0zg0 gogo g4go 1e"
    script = "row => import('/_static/figures/depth.js').then(({ read }) => read(row, [1, 2], 2))"
    read = live_page.evaluate(script, row)
    assert read["rows"] == [[0, 35], [16, 0]]
    assert read["up"] == pytest.approx([0, 0])
    assert read["down"] == pytest.approx([-1, 0])
    assert read["flat"] == pytest.approx(0.5)
