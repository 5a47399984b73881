"""Chapter 15's signal passes its layers as bnlib's moments say, and comes home where the page says so."""

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page
from scipy.special import erfcx

from bnlib.normprop import MEAN, STD, relu_moments
from bnlib.selu import moments, selu
from tests.site.live import live, number, words

U = np.linspace(-8, 8, 161)
WEIGHT = np.exp(-(U**2) / 2) / np.exp(-(U**2) / 2).sum()
ACTIVATIONS = {
    "selu": selu,
    "relu": lambda z: np.maximum(z, 0),
    "shifted": lambda z: (np.maximum(z, 0) - MEAN) / STD,
}


@pytest.fixture
def signal(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-selu-map")


def behind(kind: str, v: float) -> tuple[float, float]:
    """Mean and variance behind an activation of a Gaussian with mean 0 and variance v."""
    mean, var = moments(0.0, v) if kind == "selu" else relu_moments(0.0, v)
    return (float((mean - MEAN) / STD), float(var / STD**2)) if kind == "shifted" else (float(mean), float(var))


def cosine(kind: str, v: float, c: float) -> float:
    f = ACTIVATIONS[kind]
    one, two = v**0.5 * U[:, None], v**0.5 * (c * U[:, None] + (1 - c**2) ** 0.5 * U)
    return float(WEIGHT @ (f(one) * f(two)) @ WEIGHT / (WEIGHT @ f(one[:, 0]) ** 2))


def passed(
    kind: str, gain: float, mean: float, sd: float, c: float, many: int = 50
) -> list[tuple[float, float, float]]:
    found = [(mean, sd, c)]
    for _ in range(many):
        v = gain**2 * (mean**2 + sd**2)
        c = cosine(kind, v, c)
        mean, var = behind(kind, v)
        sd = var**0.5
        found.append((mean, sd, c))
    return found


def home(path: list[Any]) -> int:
    """The layer from which on all are near mean 0 and standard deviation 1."""
    return max(i for i, (mean, sd, _) in enumerate(path) if max(abs(mean), abs(sd - 1)) >= 0.1) + 1


def told(figure: Locator, what: str) -> list[float]:
    found = re.search(what.replace("#", r"(−?[\d.]*\d)"), words(figure))
    assert found, words(figure)
    return [number(one) for one in found.groups()]


def test_the_tail_of_the_gaussian_is_scipys(live_page: Page, signal: Locator):
    x = np.geomspace(1e-6, 1e6, 400).tolist()
    there = live_page.evaluate("(x) => import('/_static/figures/selu.js').then(({ erfcx }) => x.map(erfcx))", x)
    np.testing.assert_allclose(there, erfcx(x), rtol=1e-12)


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
def test_a_layer_is_bnlibs(live_page: Page, signal: Locator, kind: str):
    v = np.geomspace(1e-6, 1e6, 60)
    there = live_page.evaluate(
        "([kind, v]) => import('/_static/figures/selu.js').then(({ KINDS }) => v.map(KINDS[kind].moments))",
        [kind, v.tolist()],
    )
    mean, square = np.transpose(there)
    ours = np.array([behind(kind, one) for one in v])
    np.testing.assert_allclose(mean, ours[:, 0], rtol=1e-7)
    np.testing.assert_allclose(square, ours[:, 1] + ours[:, 0] ** 2, rtol=1e-7)


@pytest.mark.parametrize("kind", list(ACTIVATIONS))
def test_two_examples_go_the_ways_of_the_chapters_grid(live_page: Page, signal: Locator, kind: str):
    rng = np.random.default_rng(0)
    pairs = [(float(v), float(c)) for v, c in zip(10 ** rng.uniform(-2, 2, 8), rng.uniform(0, 1, 8), strict=True)]
    there = live_page.evaluate(
        "([kind, all]) => import('/_static/figures/selu.js').then(({ KINDS }) => "
        "all.map((one) => KINDS[kind].cosine(...one)))",
        [kind, [*pairs, (1.0, 1.0)]],
    )
    off = 1e-6 if kind == "selu" else 2e-3  # the others in closed form: the grid is not exact at a corner
    np.testing.assert_allclose(there, [*(cosine(kind, *one) for one in pairs), 1], atol=off)


def test_it_begins_far_off_and_comes_home(signal: Locator):
    path = passed("selu", 1, -1.4, 3, 0.9)
    assert told(signal, "From layer # on mean and standard deviation are within 0.1 of 0 and 1") == [home(path)]
    assert told(signal, "cosine of two examples goes from # to #") == pytest.approx([0.9, path[-1][2]], abs=0.006)


def test_hes_gain_and_the_relu_do_not_come_home(signal: Locator):
    signal.get_by_role("button", name="He’s gain").click()
    mean, sd, _ = passed("selu", 2**0.5, -1.4, 3, 0.9)[-1]
    assert told(signal, "the mean is # and the standard deviation #, not") == pytest.approx([mean, sd], rel=0.02)
    signal.get_by_role("button", name="ReLU", exact=True).click()
    mean, sd, c = passed("relu", 2**0.5, -1.4, 3, 0.9)[-1]
    assert told(signal, "the mean is # and the standard deviation #, not") == pytest.approx([mean, sd], abs=0.006)
    assert told(signal, "goes from 0.90 to #") == pytest.approx([c], abs=0.006)
    signal.get_by_role("button", name="PyTorch’s gain").click()
    assert "the mean is 0.00 and the standard deviation below 0.01" in words(signal)


def test_the_start_and_the_sliders_count(signal: Locator):
    start = signal.get_by_role("slider", name="Start")
    for key in ("ArrowRight", "ArrowDown", "PageDown"):
        start.press(key)
    assert start.get_attribute("aria-valuetext") == "mean −1.30, standard deviation 2.40"
    signal.get_by_role("slider", name="gain").fill("1.1")
    signal.get_by_role("slider", name="cosine").fill("0.5")
    mean, sd, c = passed("selu", 1.1, -1.3, 2.4, 0.5)[-1]
    assert told(signal, "the mean is # and the standard deviation #, not") == pytest.approx([mean, sd], abs=0.006)
    assert told(signal, "goes from # to #") == pytest.approx([0.5, c], abs=0.006)
