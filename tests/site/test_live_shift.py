"""Chapter 1's line and weights are those of NumPy and bnlib, and follow the target."""

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from bnlib.shift import effective_sample_size
from tests.site.live import STATES, live, words

RULES = {"sinc": np.sinc, "line": lambda x: 1 - x / 2}


@pytest.fixture
def shift(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-sinc")


def bell(x, mean: float, std: float):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (std * np.sqrt(2 * np.pi))


def expected(mean: float, width: float, power: float, rule: str) -> tuple[float, float, float]:
    """Of a state: the error over the target of the plain and of the weighted line, and the effective sample size."""
    given = STATES["fig-sinc"]
    x = np.array(given["x"])
    y = RULES[rule](x) + np.array(given["noise"])
    w = (bell(x, mean, width) / bell(x, *given["source"])) ** power
    z, mass = np.polynomial.hermite_e.hermegauss(60)
    t = mean + width * z
    errors = []
    for weights in (np.ones_like(x), w):
        line = np.polynomial.Polynomial.fit(x, y, 1, w=np.sqrt(weights))
        errors.append(mass @ (line(t) - RULES[rule](t)) ** 2 / mass.sum())
    return errors[0], errors[1], effective_sample_size(w)


def told(figure: Locator) -> list[float]:
    """The two errors and the size that the figure tells."""
    found = [float(word.rstrip(".,")) for word in words(figure).split() if word[0].isdigit()]
    return found[:3]


def test_the_page_computes_what_numpy_and_bnlib_compute(live_page: Page, shift: Locator):
    rng = np.random.default_rng(0)
    for power, rule in ((1.0, "sinc"), (0.4, "line"), (0.0, "sinc")):
        x, noise = rng.normal(1, 0.5, 40), rng.normal(0, 0.25, 40)
        mean, width = rng.uniform(0, 3), rng.uniform(0.2, 0.6)
        w = (bell(x, mean, width) / bell(x, 1, 0.5)) ** power
        there = live_page.evaluate(
            """([x, y, state, line]) => import('/_static/figures/shift.js').then((own) => {
                 const w = own.weights(x, [1, 0.5], state);
                 return [w, own.fitted(x, y, w), own.effective(w), own.error(line, state.rule, state)];
               })""",
            [x.tolist(), noise.tolist(), {"mean": mean, "width": width, "power": power, "rule": rule}, [0.3, -0.7]],
        )
        line = np.polynomial.polynomial.polyfit(x, noise, 1, w=np.sqrt(w))
        t = rng.normal(mean, width, 200_000)
        np.testing.assert_allclose(there[0], w, rtol=1e-10)
        np.testing.assert_allclose(there[1], line, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(there[2], effective_sample_size(w), rtol=1e-10)
        assert there[3] == pytest.approx(np.mean((0.3 - 0.7 * t - RULES[rule](t)) ** 2), rel=0.02)


def test_it_begins_where_the_weighted_line_wins(shift: Locator):
    plain, weighted, size = expected(2, 0.25, 1, "sinc")
    assert told(shift)[:2] == pytest.approx([plain, weighted], abs=0.006)
    assert told(shift)[2] == pytest.approx(size, abs=0.5)
    assert plain > 5 * weighted


def test_the_target_moves_by_its_handles_and_the_weights_follow(shift: Locator):
    for _ in range(2):
        shift.get_by_role("slider", name="Target's mean").press("PageUp")
    shift.get_by_role("slider", name="Target's standard deviation").press("ArrowRight")
    plain, weighted, size = expected(3, 0.27, 1, "sinc")
    assert told(shift) == pytest.approx([plain, weighted, size], rel=0.02)
    assert weighted > plain


def test_power_and_rule_do_what_they_say(shift: Locator):
    shift.get_by_role("button", name="a straight line").click()
    plain, weighted, size = expected(2, 0.25, 1, "line")
    assert told(shift) == pytest.approx([plain, weighted, size], rel=0.06, abs=0.05)
    assert weighted > plain
    shift.get_by_role("slider", name="power").fill("0")
    assert told(shift) == pytest.approx([plain, plain, 150], rel=0.06, abs=0.0006)
