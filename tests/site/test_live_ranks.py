"""Chapter 10's ranks normalize as batch_norm does, part by part or pooled, and the words follow what is moved."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from bnlib import batch_norm
from bnlib.norms import Moments
from bnlib.running import pooled
from tests.site.live import live, number, words

X = np.array([2.0, 4, 4, 10, 9, 11, 11, 17])


@pytest.fixture
def ranks(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-ranks")


def normed(x: np.ndarray) -> np.ndarray:
    return batch_norm(x[:, None], np.ones(1), np.zeros(1))[0][:, 0]


def becomes(figure: Locator) -> list[float]:
    return [
        number((figure.get_by_role("slider", name=f"Value {i}").get_attribute("aria-valuetext") or "").split()[-1])
        for i in range(1, 9)
    ]


def told(figure: Locator) -> list[float]:
    """The pooled mean, the variance within and between, and their sum."""
    return [number(one) for one in re.findall(r"[−\d]+\.\d+", words(figure).split("Pooled")[1])]


def test_the_page_computes_what_bnlib_computes(live_page: Page, ranks: Locator):
    rng = np.random.default_rng(0)
    for size, parts in ((8, 1), (8, 2), (12, 4), (6, 6)):
        x = rng.normal(3, 4, size)
        there = live_page.evaluate(
            "([x, parts]) => import('/_static/figures/ranks.js').then(({ divided }) => divided(x, parts))",
            [x.tolist(), parts],
        )
        pieces = x.reshape(parts, -1)
        if size > parts:  # batch_norm refuses one value
            np.testing.assert_allclose(there["alone"], np.concatenate([normed(piece) for piece in pieces]), atol=1e-12)
        else:
            assert there["alone"] == [0] * size
        np.testing.assert_allclose(there["together"], normed(x), rtol=1e-9)
        merged = pooled(*(Moments(p.mean(keepdims=True), p.var(keepdims=True), len(p)) for p in pieces))
        whole = there["whole"]
        np.testing.assert_allclose([whole["mean"], whole["variance"]], [*merged.mean, *merged.var])
        np.testing.assert_allclose([whole["within"], whole["between"]], [pieces.var(1).mean(), pieces.mean(1).var()])


def test_parts_and_synchronizing_decide_what_comes_out(ranks: Locator):
    assert becomes(ranks) == pytest.approx([*normed(X[:4]), *normed(X[4:])], abs=0.006)
    assert told(ranks) == [8.5, 9, 12.25, 21.25]
    parts = ranks.get_by_role("slider", name="parts")
    parts.fill("2")
    assert np.abs(becomes(ranks)).tolist() == [1, 1, 1, 1, 1, 1, 1, 1]
    parts.fill("3")
    assert becomes(ranks) == [0] * 8
    ranks.get_by_role("button", name="synchronized ranks").click()
    assert becomes(ranks) == pytest.approx(normed(X), abs=0.006)
    assert told(ranks) == [8.5, 0, 21.25, 21.25]


def test_a_moved_value_moves_its_own_part_alone(ranks: Locator):
    before = becomes(ranks)
    ranks.get_by_role("slider", name="Value 4").press("PageUp")
    moved = X.copy()
    moved[3] = 13
    assert becomes(ranks)[:4] == pytest.approx(normed(moved[:4]), abs=0.006)
    assert becomes(ranks)[4:] == before[4:]
    off = np.abs(np.concatenate([normed(moved[:4]), normed(moved[4:])]) - normed(moved)).mean()
    assert f"{off:.2f} off" in words(ranks)
    ranks.get_by_role("button", name="micro-batches").click()
    assert f"{off:.2f} off" in words(ranks)
    assert "nothing can be exchanged" in words(ranks)
