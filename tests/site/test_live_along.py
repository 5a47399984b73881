"""Chapter 11's loss along a step says what the chapter measured, of the network, update and step that are chosen."""

import re
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from tests.site.live import STATES, drag, live, number, words


@pytest.fixture
def along(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-along")


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    return STATES["fig-along"]


def expected(state: dict[str, Any], unit: str, update: int, step: float) -> list[float]:
    """For both arms the share that is left, how much of the promised fall came in per cent, and where it is lowest."""
    found, steps = [], np.array(state["steps"])
    for arm in ("none", "batch"):
        curve = state["curves"][unit][arm][state["updates"].index(update)]
        left = np.interp(step, steps, curve["mid"])
        promised = curve["slope"] * step
        found += [left, *([100 * (1 - left) / promised] if left <= 1 else []), steps[np.argmin(curve["mid"])]]
    return found


def told(figure: Locator) -> list[float]:
    return [number(n) for n in re.findall(r"(?<=to |at )\d\.\d\d(?=,|;|\.)|\d+(?= %)", words(figure))]


def test_it_begins_with_the_sigmoid_networks_and_the_step_that_was_made(along: Locator, state: dict[str, Any]):
    assert words(along).startswith("Update 20, sigmoid, at 1.00 of the step.")
    assert "(rate 1)" in words(along)
    assert "(rate 3.16)" in words(along)
    assert told(along) == pytest.approx(expected(state, "sigmoid", 20, 1), abs=0.51)
    none, batch = (state["curves"]["sigmoid"][arm][-1]["mid"][4] for arm in ("none", "batch"))
    assert batch < 0.6 * none  # what the caption says


def test_network_update_and_step_are_chosen(along: Locator, state: dict[str, Any]):
    along.get_by_role("button", name="ReLU").click()
    along.get_by_role("slider", name="update").fill("1")
    handle = along.get_by_role("slider", name="Length of the step")
    handle.press("ArrowRight")
    handle.press("PageUp")
    assert words(along).startswith("Update 2, ReLU, at 2.25 of the step.")
    shown, wanted = told(along), expected(state, "relu", 2, 2.25)
    assert len(shown) == len(wanted)
    assert shown == pytest.approx(wanted, abs=0.51)
    for _ in range(20):
        handle.press("ArrowLeft")
    assert words(along) == "Update 2, ReLU: no step is made, and the loss is what it was."


def test_a_loss_that_rises_is_not_called_a_fall(along: Locator, state: dict[str, Any]):
    along.get_by_role("slider", name="update").fill("0")
    assert state["curves"]["sigmoid"]["none"][0]["mid"][4] > 1
    assert words(along).count("rises") == 2
    assert "%" not in words(along)


def test_the_handle_is_dragged_to_the_steps_that_were_computed(live_page: Page, along: Locator):
    handle = along.get_by_role("slider", name="Length of the step")
    drag(live_page, handle, 5000)
    assert handle.get_attribute("aria-valuenow") == "4"


def test_the_page_computes_shares_and_cuts_as_numpy_does(live_page: Page, along: Locator):
    rng = np.random.default_rng(0)
    for _ in range(5):
        share, slope, step = rng.uniform(0.1, 2, 3)
        values = np.cumsum(rng.uniform(0, 0.6, 12))
        kept, cut = live_page.evaluate(
            """([how, ...given]) => import("/_static/figures/along.js").then(
              ({ kept, below }) => [kept(...how), below(...given)])""",
            [[share, slope, step], list(zip(range(12), values.tolist(), strict=True)), 2.0],
        )
        assert kept == pytest.approx((1 - share) / (slope * step))
        assert cut[-1] == pytest.approx([np.interp(2.0, values, range(12)), 2.0])
        assert len(cut) == (values <= 2).sum() + 1
