"""Chapter 8's map shows its record: each field's median and seeds, without and with batch norm."""

import json

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.site.conftest import ROOT
from tests.site.live import live, words

RECORD = json.loads((ROOT / "bnlib/results/lr-gain.json").read_text("utf-8"))
RATES, GAINS = RECORD["settings"]["lrs"], RECORD["settings"]["gains"]


@pytest.fixture
def fields(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-map")


def recorded(unit: str, norm: str) -> np.ndarray:
    """(gains, rates, seeds): the record's validation accuracies."""
    of = {
        (case["labels"]["gain"], case["labels"]["lr"]): case["values"]["val"]
        for case in RECORD["values"]
        if case["labels"]["activation"] == unit and case["labels"]["norm"] == norm
    }
    return np.array([[of[gain, rate] for rate in RATES] for gain in GAINS])


def expected(unit: str, rate: int, gain: int) -> str:
    a, b = recorded(unit, "none"), recorded(unit, "batch")
    of = [(f"{np.median(one[gain, rate]):.2f}", (one[gain, rate] >= 0.9).sum()) for one in (a, b)]
    there = [(np.median(one, 2) > 0.9 - 1e-9).sum() for one in (a, b)]
    return (
        f"At rate {RATES[rate]:g} and gain {GAINS[gain]:g} the median accuracy is {of[0][0]} without batch norm "
        f"({of[0][1]} of 8 seeds reach 0.90) and {of[1][0]} with it ({of[1][1]} of 8). The median reaches 0.90 in "
        f"{there[0]} of 72 fields without, in {there[1]} with batch norm."
    )


def test_each_field_tells_its_median_and_seeds(fields: Locator):
    assert words(fields) == expected("sigmoid", 4, 2)
    for rate, gain in ((0, 0), (5, 4), (8, 7), (6, 5)):
        fields.get_by_role("slider", name="learning rate").fill(str(rate))
        fields.get_by_role("slider", name="gain").fill(str(gain))
        assert words(fields) == expected("sigmoid", rate, gain)
    fields.get_by_role("button", name="ReLU").click()
    assert words(fields) == expected("relu", 6, 5)


def test_a_field_is_chosen_by_a_click_in_either_map(live_page: Page, fields: Locator):
    cells = fields.locator("svg rect:is(.bn-1, .bn-2)")
    expect(cells).to_have_count(2 * 72)
    for cell in (72 + 9 * 3 + 6, 9 * 5 + 2):  # with batch norm; without
        box = cells.nth(cell).bounding_box()
        assert box
        live_page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert words(fields) == expected("sigmoid", cell % 9, cell % 72 // 9)


def test_the_best_field_of_each_is_found(fields: Locator):
    for name, norm in (("best without", "none"), ("best with batch norm", "batch")):
        fields.get_by_role("button", name=name).click()
        medians = np.median(recorded("sigmoid", norm), 2)
        gain, rate = np.unravel_index(medians.argmax(), medians.shape)
        assert words(fields) == expected("sigmoid", int(rate), int(gain))


def test_the_page_takes_the_median_of_any_seeds(live_page: Page, fields: Locator):
    rng = np.random.default_rng(0)
    for seeds in (1, 5, 8):
        right = rng.integers(0, 361, seeds)
        there = live_page.evaluate(
            "(right) => import('/_static/figures/rate_map.js').then(({ field }) => field(right, 360, 0.5))",
            right.tolist(),
        )
        assert there["median"] == pytest.approx(np.median(right) / 360)
        assert there["reach"] == (right >= 180).sum()
        assert there["there"] == (np.median(right) >= 180)
