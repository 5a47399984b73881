"""Chapter 13's small array: any set of axes as bnlib computes it, and what each norm undoes."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page

from bnlib import batch_norm, group_norm, instance_norm, layer_norm
from bnlib.norms import Layout, normalize
from tests.site.live import live, number, words

X = np.array(
    [[[5, 8, 8], [6, 9, 0], [2, 3, 3], [2, 2, 0]], [[1, 7, 1], [4, 0, 5], [9, 6, 3], [2, 8, 4]]], float
)  # the chapter's
AXES = {"batch": (0, 2), "layer": (1, 2), "instance": (2,), "place": (1,), "RMS": (1, 2)}
PARTS = {"its example": np.s_[0], "its channel": np.s_[:, 0], "its position": np.s_[..., 1], "everything": np.s_[:]}


@pytest.fixture
def sets(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-axes-sets")


def norm(name: str, x: np.ndarray) -> np.ndarray:
    """The chapter's one function, eps 0."""
    v = x.reshape(len(x), 2, -1, *x.shape[2:]) if name == "group" else x
    axes = (2, 3) if name == "group" else AXES[name]
    v = v - (0 if name == "RMS" else v.mean(axes, keepdims=True))
    return (v / np.sqrt((v**2).mean(axes, keepdims=True))).reshape(x.shape)


def computed(page: Page, x: np.ndarray, how: dict[str, str], eps: float) -> np.ndarray:
    y = page.evaluate(
        "(given) => import('/_static/figures/sets.js').then(({ normalized }) => normalized(...given).y)",
        [x.tolist(), how, eps],
    )
    return np.array(y)


def test_the_page_computes_what_bnlib_computes(live_page: Page, sets: Locator):
    rng = np.random.default_rng(0)
    one, none = np.ones(4), np.zeros(4)
    for _ in range(3):
        x = rng.normal(1, 2, (3, 4, 5))
        whole = {"examples": "each", "channels": "all", "positions": "all", "centre": "yes"}
        pairs = (
            (whole | {"examples": "all", "channels": "each"}, batch_norm(x, one, none, eps=0.1)),
            (whole, layer_norm(x, np.ones((4, 5)), np.zeros((4, 5)), eps=0.1)),
            (whole | {"channels": "each"}, instance_norm(x, one, none, eps=0.1)),
            (whole | {"channels": "halves"}, group_norm(x, one, none, 2, eps=0.1)),
            (whole | {"positions": "each"}, normalize(x, one, none, Layout(x.shape, (1, 4, 1), (1,)), eps=0.1)),
            (
                whole | {"centre": "no"},
                normalize(x, one, none, Layout(x.shape, (1, 4, 1), (1, 2), centred=False), eps=0.1),
            ),
        )
        for how, (y, _) in pairs:
            np.testing.assert_allclose(computed(live_page, x, how, 0.1), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["batch", "layer", "instance", "group", "place", "RMS"])
def test_a_norm_undoes_what_the_table_says(sets: Locator, name: str):
    sets.get_by_role("button", name=name, exact=True).click()
    before = norm(name, X)
    assert f"becomes {before[0, 0, 1]:.2f}" in words(sets)
    for part, place in PARTS.items():
        for way in ("times 3", "plus 3"):
            x = X.copy()
            x[place] = 3 * x[place] if way == "times 3" else x[place] + 3
            moved = (abs(norm(name, x) - before) > 1e-9).sum()
            button = sets.get_by_role("button", name=re.compile(f"^{part} {re.escape(way)}"))
            assert button.inner_text().replace("\xa0", " ") == (f"{moved} move" if moved else "undone")


def test_it_begins_with_batch_norm_and_no_change(sets: Locator):
    start = words(sets)
    assert start.startswith("Batch norm: the ringed 8 shares its statistics with 5 others (blue) and becomes 1.00.")
    assert sets.locator(".bn-undone button[aria-pressed='true']").count() == 0
    x = X.copy()
    x[0] *= 3
    button = sets.get_by_role("button", name="its example times 3")
    button.click()
    assert f"it becomes {norm('batch', x)[0, 0, 1]:.2f}, and 24 of 24 outputs move (orange), 12 of them" in words(sets)
    button.click()  # once more takes it back
    assert words(sets) == start


def test_axes_make_a_norm_and_the_ring_moves(sets: Locator):
    sets.get_by_role("group", name="Examples").get_by_role("button", name="each").click()
    sets.get_by_role("group", name="Channels").get_by_role("button", name="all").click()
    assert words(sets).startswith("Layer norm:")
    sets.get_by_role("group", name="Mean").get_by_role("button", name="kept").click()
    assert words(sets).startswith("RMS norm:")
    ring = sets.get_by_role("slider", name="The ringed number")
    for key in ("ArrowDown", "PageUp", "ArrowLeft"):
        ring.press(key)
    assert ring.get_attribute("aria-valuetext") == "example 2, channel 2, position 1"
    shown = re.search(r"the ringed 4 .* becomes ([−\d.]+)\. The", words(sets))
    assert shown
    assert number(shown[1]) == pytest.approx(norm("RMS", X)[1, 1, 0], abs=0.006)
    sets.get_by_role("group", name="Examples").get_by_role("button", name="all").click()
    assert words(sets).startswith("A norm without a name:")


def test_a_number_is_chosen_by_a_tap(live_page: Page, sets: Locator):
    box = sets.locator("svg").bounding_box()
    assert box
    live_page.mouse.click(box["x"] + 20, box["y"] + 65)
    ring = sets.get_by_role("slider", name="The ringed number")
    assert ring.get_attribute("aria-valuetext") == "example 1, channel 1, position 1"
