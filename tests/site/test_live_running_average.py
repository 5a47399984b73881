"""Chapter 9's running average is bnlib's, its error the sum of its parts, and the words follow what is moved."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from bnlib.norms import Moments
from bnlib.running import RunningStats
from tests.site.live import STATES, live, number, words

NAME = "fig-lag"
STATE = STATES[NAME]
HERE = "import('/_static/figures/running_average.js')"


@pytest.fixture
def average(live_page: Page, address: str) -> Locator:
    return live(live_page, address, NAME)


def told(figure: Locator) -> list[float]:
    """Steps, the average, the true mean, its error, and start, noise and lag."""
    return [number(one) for one in re.findall(r"[−\d.]*\d", words(figure).split(". ")[0])]


def expected(n: str, momentum: float, t: int, *, corrected: bool) -> list[float]:
    """The same, by a plain loop for each part: the average of the parts is the part of the average."""
    truth = np.array(STATE["truth"])
    batches = np.array(STATE["streams"][n])
    streams = {"start": 0 * batches, "noise": batches - truth[:-1], "lag": truth[:-1] - truth[t]}
    parts = dict.fromkeys(streams, 0.0) | {"start": -truth[t]}
    for k in range(t):
        parts = {name: (1 - momentum) * parts[name] + momentum * streams[name][k] for name in parts}
    if corrected:
        parts = {name: value / (1 - (1 - momentum) ** t) for name, value in parts.items()} | {"start": 0.0}
    error = sum(parts.values())
    return [t, truth[t] + error, truth[t], error, *parts.values()]


def test_the_page_computes_what_bnlib_computes(live_page: Page, average: Locator):
    rng = np.random.default_rng(0)
    for t, momentum in ((1, 0.1), (30, 0.3), (80, 0.01), (20, 1.0)):
        batches, truth = rng.normal(2, 1, t), rng.normal(2, 0.1, t + 1)
        stats = RunningStats.start(1, momentum=momentum)
        for mean in batches:
            stats = stats.update(Moments(np.array([mean]), np.ones(1), 8))
        for corrected in (False, True):
            line, parts = live_page.evaluate(
                f"([b, truth, m, t, c]) => {HERE}.then((a) => [a.running(b, m, c), a.split(b, truth, m, t, c)])",
                [batches.tolist(), truth.tolist(), momentum, t, corrected],
            )
            wanted = stats.mean[0] / (1 - (1 - momentum) ** t) if corrected else stats.mean[0]
            assert line[-1] == pytest.approx(wanted)
            assert parts["average"] == pytest.approx(wanted)
            assert parts["start"] + parts["noise"] + parts["lag"] == pytest.approx(wanted - truth[-1])
            weight = momentum * (1 - momentum) ** np.arange(t)[::-1]
            assert parts["age"] == pytest.approx(weight @ np.arange(t)[::-1] / weight.sum())


def test_it_begins_with_a_start_that_is_most_of_the_error(average: Locator):
    assert told(average) == pytest.approx(expected("60", 0.01, 50, corrected=False), abs=6e-4)
    assert f"Largest is the start: {100 * 0.99**50:.0f} % of the start" in words(average)


def test_each_control_does_what_it_says(average: Locator):
    average.get_by_role("button", name="correct the start").click()
    assert told(average) == pytest.approx(expected("60", 0.01, 50, corrected=True), abs=6e-4)
    assert "Largest is the lag" in words(average)
    average.get_by_role("button", name="4", exact=True).click()
    average.get_by_role("slider", name="momentum").press("End")
    assert told(average) == pytest.approx(expected("4", 1.0, 50, corrected=True), abs=6e-4)
    assert "Largest is the noise" in words(average)
    handle = average.get_by_role("slider", name="Batches seen")
    for key in ("PageUp", "ArrowRight"):
        handle.press(key)
    average.get_by_role("slider", name="momentum").fill(str(STATE["momenta"].index(0.1)))
    average.get_by_role("button", name="correct the start").click()
    assert told(average) == pytest.approx(expected("4", 0.1, 61, corrected=False), abs=6e-4)
