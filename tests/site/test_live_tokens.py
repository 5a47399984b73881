"""Chapter 16's grid: what a prediction depends on, by norm and place."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.site.live import live, words


@pytest.fixture
def tokens(live_page: Page, address: str) -> Locator:
    return live(live_page, address, "fig-tokens")


def told(figure: Locator) -> list[int]:
    """The numbers in the words: other places of the same statistics, places that count, future, others, padding."""
    return [int(number) for number in re.findall(r"\d+(?= (?:other|place|of))", words(figure).split("shares")[1])]


def test_a_prediction_with_batch_norm_depends_on_all_and_with_layer_norm_on_its_past(tokens: Locator):
    assert told(tokens) == [31, 32, 4, 24, 7]
    tokens.get_by_role("button", name="layer norm").click()
    assert told(tokens) == [0, 4, 0, 0, 0]
    expect(tokens.locator(".bn-seen")).to_have_count(4)
    expect(tokens.locator(".bn-shares")).to_have_count(1)


def test_another_place_is_chosen_by_a_click_or_the_arrows(live_page: Page, tokens: Locator):
    tokens.get_by_role("button", name="layer norm").click()
    tokens.get_by_role("button", name="Sequence 3, position 7, padding").click()
    assert told(tokens) == [0, 7, 0, 0, 3]
    for key, name, sees in (("ArrowUp", "Sequence 2, position 7", 7), ("ArrowLeft", "Sequence 2, position 6", 6)):
        live_page.keyboard.press(key)
        expect(tokens.get_by_role("button", name=name, exact=True)).to_be_focused()
        assert told(tokens)[1] == sees
    expect(tokens.locator("button[tabindex='0']")).to_have_count(1)
