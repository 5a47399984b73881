"""Chapter 5's runaway unit takes the steps that autograd takes with, and without, the gradient of its statistic."""

import re

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page

from tests.site.live import live, number, words

U = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=torch.float64)
WISHES = {"shift": "larger by 1", "double": "twice as large", "half": "half as large"}


def steps_of(wish: str, takes: str, learned: bool, steps: int, rate: float) -> tuple[list[float], list[float], float]:
    """The parameter and the one behind the normalization at every step, and the last loss."""
    shift = wish == "shift"
    v = (U - U.mean()) / U.std(correction=0)
    target = U - U.mean() + 1 if shift else {"double": 2.0, "half": 0.5}[wish] * v
    own, behind = (0.0, 0.0) if shift else (1.0, 1.0)
    owns, behinds, loss = [], [], torch.zeros(())
    for _ in range(steps + 1):
        owns.append(own)
        behinds.append(behind)
        p = torch.tensor([own, behind], dtype=torch.float64, requires_grad=True)
        x = U + p[0] if shift else p[0] * v
        statistic = x.mean() if shift else x.std(correction=0)
        statistic = statistic.detach() if takes == "constants" else statistic
        y = x - statistic + p[1] if shift else p[1] * x / statistic
        loss = 0.5 * ((y - target) ** 2).mean()
        (g,) = torch.autograd.grad(loss, p)
        own -= rate * g[0].item()
        behind -= rate * g[1].item() * learned
    return owns, behinds, loss.item()


@pytest.fixture
def unit(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-runaway")


def ends(figure: Locator) -> list[float]:
    """Where the words say that the parameter, what is learned behind it, and the loss have gone to."""
    return [number(found) for found in re.findall(r" to ([−\d.]+\d)", words(figure))]


def test_the_page_computes_what_autograd_computes(live_page: Page, unit: Locator):
    for wish in WISHES:
        for takes in ("constants", "whole"):
            for learned, steps, rate in ((False, 10, 0.1), (True, 23, 0.35)):
                how = {"wish": wish, "takes": takes, "learned": learned, "steps": steps, "rate": rate}
                there = live_page.evaluate(
                    "(how) => import('/_static/figures/runaway.js').then(({ run }) => run(how))", how
                )
                owns, behinds, loss = steps_of(**how)
                np.testing.assert_allclose([one["own"] for one in there], owns, rtol=1e-9, atol=1e-12)
                np.testing.assert_allclose([one["behind"] for one in there], behinds, rtol=1e-9, atol=1e-12)
                assert there[-1]["loss"] == pytest.approx(loss, abs=1e-12)


def test_it_begins_with_a_bias_that_ran_away_from_a_loss_that_stands(unit: Locator):
    assert ends(unit) == pytest.approx([6, 0.5])
    unit.get_by_role("button", name="10 steps on").click()
    assert ends(unit) == pytest.approx([11, 0.5])


@pytest.mark.parametrize("wish", list(WISHES))
def test_what_the_gradient_sees_keeps_the_parameter_and_what_is_learned_serves_the_loss(unit: Locator, wish: str):
    unit.get_by_role("button", name=WISHES[wish]).click()
    unit.get_by_role("slider", name="learning rate").fill("0.1")
    unit.get_by_role("slider", name="steps").fill("9")
    owns, _, loss = steps_of(wish, "constants", learned=False, steps=9, rate=0.1)
    assert ends(unit) == pytest.approx([owns[-1], loss], abs=0.006)
    unit.get_by_role("button", name="what it is").click()
    assert ends(unit) == pytest.approx([owns[0], loss], abs=0.006)
    unit.get_by_role("button", name="learn a shift or scale behind it").click()
    owns, behinds, loss = steps_of(wish, "whole", learned=True, steps=9, rate=0.1)
    assert ends(unit) == pytest.approx([owns[0], behinds[-1], loss], abs=0.006)
