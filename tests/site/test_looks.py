"""Every page of the site in a real browser, by one visit: keyboard, paper, weight, and how it looks, light and dark.

How it looks on a phone is in test_phone.py.
"""

import pytest
from playwright.sync_api import Browser

from tests.site.checker import Seen, seen
from tests.site.conftest import PAGES

LIMIT = 500  # kB over the wire for a first visit


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, chromium: Browser, address: str) -> Seen:
    """What is wrong with a page."""
    return seen(chromium, f"{address}/{request.param}", LIMIT * 1000)


@pytest.mark.parametrize("way", Seen._fields)
def test_page(page: Seen, way: str) -> None:
    assert getattr(page, way) == []
