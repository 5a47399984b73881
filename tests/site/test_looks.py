"""Every page of the site in a real browser, by one visit: keyboard, paper, weight, and how it looks, light and dark.

How it looks on a phone is in test_phone.py.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.site.checker import Seen, open_tab, seen
from tests.site.conftest import PAGES

LIMIT = 500  # kB over the wire for a first visit


@pytest.fixture(scope="session")
def tab(chromium: Browser) -> Iterator[Page]:
    """Where the pages are looked at, one after the other."""
    with open_tab(chromium) as tab:
        yield tab


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tab: Page, address: str) -> Seen:
    """What is wrong with a page."""
    return seen(tab, f"{address}/{request.param}", LIMIT * 1000)


@pytest.mark.parametrize("way", Seen._fields)
def test_page(page: Seen, way: str) -> None:
    assert getattr(page, way) == []
